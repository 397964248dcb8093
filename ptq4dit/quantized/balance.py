"""From a calibration to balancing factors and activation ranges: where the paper's formulas meet a config."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.affine import least_squares_range
from ptq4dit.calibration import Calibration
from ptq4dit.config import FLOAT_BITS, QuantConfig
from ptq4dit.linears import BALANCED_ROLES
from ptq4dit.paper.csb import balance_factors
from ptq4dit.paper.ssc import calibrated_salience, middle_timestep_salience
from ptq4dit.quantized.linear import activation_spec


def layer_factor(stats: Calibration, layer: str, *, csb: bool, ssc: bool) -> Float[Tensor, " channel"]:
    """``b_x`` of one layer (PTQ4DiT eq. 6): ones without CSB and for fc2, which nothing can absorb.

    Args:
        stats: calibration of the float model.
        layer: its name.
        csb: balance at all.
        ssc: with the salience of eq. 10 instead of the middle timestep's.
    """
    weight = stats.weight_salience[layer]
    if not csb or layer.rsplit(".", 1)[-1] not in BALANCED_ROLES:
        return torch.ones_like(weight)
    activation = stats.activation_salience[layer]
    chosen = calibrated_salience(activation, weight) if ssc else middle_timestep_salience(activation)
    return balance_factors(chosen, weight)[0]


def model_factors(stats: Calibration, config: QuantConfig) -> dict[str, Float[Tensor, " channel"]]:
    """``b_x`` of every layer that CSB balances; empty without CSB."""
    balanced = [name for name in stats.layers if name.rsplit(".", 1)[-1] in BALANCED_ROLES] if config.csb else []
    return {name: layer_factor(stats, name, csb=config.csb, ssc=config.ssc) for name in balanced}


def activation_range(
    low: Float[Tensor, "timestep channel"],
    high: Float[Tensor, "timestep channel"],
    samples: Float[Tensor, "timestep row channel"],
    config: QuantConfig,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """One static range for all timesteps: the extremes, or for ``"mse"`` the range that rounds the rows best."""
    smallest, largest = low.amin(), high.amax()
    if config.activation_range == "minmax" or config.activation_bits == FLOAT_BITS:
        return smallest, largest
    return least_squares_range(samples.to(low.dtype), smallest, largest, activation_spec(config.activation_bits))


def activation_ranges(
    stats: Calibration, config: QuantConfig
) -> Mapping[str, tuple[Float[Tensor, ""], Float[Tensor, ""]]]:
    """`activation_range` of every layer; ``stats`` are those of the model that is quantized, after folding."""
    return {
        name: activation_range(stats.activation_min[name], stats.activation_max[name], stats.samples[name], config)
        for name in stats.layers
    }
