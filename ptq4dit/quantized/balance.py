"""From a calibration to balancing factors: where the paper's formulas meet a config."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import QuantConfig, TimestepSalience
from ptq4dit.model.layers import BALANCED_ROLES, Role
from ptq4dit.paper.csb import balance_factors
from ptq4dit.paper.ssc import calibrated_salience, middle_timestep_salience


def layer_factor(
    stats: Calibration,
    layer: str,
    *,
    csb: bool,
    ssc: bool,
    timestep_salience: TimestepSalience = "per_timestep",
    balance_fc2: bool = False,
) -> Float[Tensor, " channel"]:
    """``b_x`` of one layer (PTQ4DiT eq. 6): ones without CSB, and for what cannot be balanced.

    Args:
        stats: calibration of the float model.
        layer: its name.
        csb: balance at all.
        ssc: with one salience for all timesteps instead of the middle timestep's.
        timestep_salience: how SSC forms it, see `activation_salience`.
        balance_fc2: balance fc2, whose factor no layer before it can absorb; ones if not.
    """
    weight = stats.weight_salience[layer]
    if not csb or layer.rsplit(".", 1)[-1] not in balanced_roles(balance_fc2=balance_fc2):
        return torch.ones_like(weight)
    if not ssc:
        chosen = middle_timestep_salience(stats.activation_salience[layer])
    else:
        chosen = activation_salience(stats, layer, timestep_salience)
    return balance_factors(chosen, weight)[0]


def activation_salience(stats: Calibration, layer: str, way: TimestepSalience) -> Float[Tensor, " channel"]:
    """One activation salience of a layer for all timesteps, ``(d_in,)``.

    - ``"per_timestep"``: PTQ4DiT eq. 10, timesteps weighed by their rho.
    - ``"per_sample"``: as the released code, single sequences weighed by their own rho.
    - ``"mean"``, ``"max"``: over timesteps, without rho.

    Raises:
        ValueError: for ``"per_sample"`` of statistics that were rescaled, not observed.
    """
    salience = stats.activation_salience[layer]
    if way == "per_timestep":
        return calibrated_salience(salience, stats.weight_salience[layer])
    if way == "per_sample":
        if layer not in stats.sample_salience:
            raise ValueError(
                'timestep_salience="per_sample" needs statistics that were observed: these were rescaled from another '
                "model's. Calibrate this model, or use another way."
            )
        return stats.sample_salience[layer]
    return salience.mean(dim=0) if way == "mean" else salience.amax(dim=0)


def model_factors(stats: Calibration, config: QuantConfig) -> dict[str, Float[Tensor, " channel"]]:
    """``b_x`` of every layer that CSB balances; empty without CSB."""
    roles = balanced_roles(balance_fc2=config.balance_fc2) if config.csb else ()
    return {
        name: layer_factor(
            stats,
            name,
            csb=config.csb,
            ssc=config.ssc,
            timestep_salience=config.timestep_salience,
            balance_fc2=config.balance_fc2,
        )
        for name in stats.layers
        if name.rsplit(".", 1)[-1] in roles
    }


def balanced_roles(*, balance_fc2: bool) -> tuple[Role, ...]:
    """The roles that get factors."""
    return (*BALANCED_ROLES, "fc2") if balance_fc2 else BALANCED_ROLES


def absorbed(factors: Mapping[str, Float[Tensor, " channel"]], config: QuantConfig) -> dict[str, Tensor]:
    """The factors that a layer before absorbs (`reparameterize`); other layers multiply by theirs themselves."""
    return {name: factor for name, factor in factors.items() if not config.layer(name).balance_fc2}
