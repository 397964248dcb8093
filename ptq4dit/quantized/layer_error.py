"""How far the output of one quantized layer is off, without running the model."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.affine import affine_from_range, fake_quantize
from ptq4dit.calibration import Calibration
from ptq4dit.config import FLOAT_BITS, LayerConfig, QuantConfig
from ptq4dit.linears import get_layer
from ptq4dit.quantized.activation import activation_spec, is_static, round_dynamic
from ptq4dit.quantized.balance import layer_factor
from ptq4dit.quantized.ranges import static_range
from ptq4dit.quantized.weight import expand_weight, quantize_weight

VARIANTS: dict[str, tuple[bool, bool]] = {"none": (False, False), "csb": (True, False), "csb+ssc": (True, True)}
"""Variant -> (csb, ssc)."""


def layer_errors(transformer: nn.Module, stats: Calibration, layer: str, config: QuantConfig) -> dict[str, float]:
    """``||X W - Q(X B) Q(B^-1 W)||^2 / ||X W||^2`` of one layer over its stored rows, for each way of balancing.

    The layer is taken alone: its input is the float model's, and no factor of another layer acts on it. Scales per
    timestep group count as one for all timesteps here.

    Args:
        transformer: the float model that was calibrated.
        stats: its calibration.
        layer: layer name.
        config: bits and ranges; its ``csb`` and ``ssc`` are replaced by those of each variant.

    Returns:
        Relative squared error for ``"none"``, ``"csb"`` and ``"csb+ssc"``; equal for fc2, which is not balanced.

    Raises:
        ValueError: if there is no such layer.
    """
    return {
        variant: float(wrong.sum() / right.sum())
        for variant, (wrong, right) in _energies(transformer, stats, layer, config).items()
    }


def layer_errors_per_timestep(
    transformer: nn.Module, stats: Calibration, layer: str, config: QuantConfig
) -> dict[str, Float[Tensor, " timestep"]]:
    """`layer_errors` at each calibrated timestep, ``(T,)`` per variant."""
    return {variant: wrong / right for variant, (wrong, right) in _energies(transformer, stats, layer, config).items()}


@torch.no_grad()
def _energies(
    transformer: nn.Module, stats: Calibration, layer: str, config: QuantConfig
) -> dict[str, tuple[Tensor, Tensor]]:
    """Variant -> squared error and squared output, ``(T,)`` each."""
    weight = torch.cat([linear.weight.detach().cpu() for linear in get_layer(transformer, layer).linears])
    samples = stats.samples[layer].to(weight.dtype)
    exact = samples @ weight.T
    settings, result = config.layer(layer), {}
    for variant, (csb, ssc) in VARIANTS.items():
        b_x = layer_factor(stats, layer, csb=csb, ssc=ssc, timestep_salience=config.timestep_salience)
        b_x = b_x.to(weight.dtype)
        low, high = stats.activation_min[layer] * b_x, stats.activation_max[layer] * b_x
        output = _rounded_input(samples * b_x, low, high, settings) @ _rounded_weight(weight / b_x, settings).T
        result[variant] = (output - exact).square().sum(dim=(1, 2)), exact.square().sum(dim=(1, 2))
    return result


def _rounded_input(samples: Tensor, low: Tensor, high: Tensor, config: LayerConfig) -> Tensor:
    if config.activation_bits == FLOAT_BITS:
        return samples
    if not is_static(config):
        return round_dynamic(samples, config)
    spec = activation_spec(config)
    scale, zero_point = affine_from_range(*static_range(low, high, samples, config), spec)
    return fake_quantize(samples, scale, zero_point, spec)


def _rounded_weight(weight: Tensor, config: LayerConfig) -> Tensor:
    return weight if config.weight_bits == FLOAT_BITS else expand_weight(*quantize_weight(weight, config))
