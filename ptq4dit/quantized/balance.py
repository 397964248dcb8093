"""From a calibration to balancing factors: where the paper's formulas meet a config, and each site's absorber."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import LayerConfig, QuantConfig, TimestepSalience
from ptq4dit.model.families.absorber import absorbed_channels, shared_maximum, split_factor
from ptq4dit.model.layers import Layer
from ptq4dit.paper.csb import balance_factors
from ptq4dit.paper.ssc import calibrated_salience, middle_timestep_salience

Factors = Mapping[str, Float[Tensor, " channel"]]
"""Site name -> ``b_x``, ``(d_in,)``."""


def balances_itself(layer: Layer, config: QuantConfig) -> bool:
    """Whether a layer multiplies its input by factors that nothing in front absorbs."""
    wanted = layer.balanced_by_default and config.csb if config.balance_inputs is None else config.balance_inputs
    return layer.inside and not layer.absorbs_all and wanted


def layer_settings(layer: Layer, config: QuantConfig) -> LayerConfig:
    """How a config quantizes a layer: overrides by its name, and what only sites have (factors, rotation, branch)."""
    plain = config.layer(layer.name)
    if not layer.inside:
        return _changed(plain, rotation=False, rank=0)
    return _changed(plain, input_factor=balances_itself(layer, config))


def layer_factor(
    stats: Calibration,
    layer: Layer,
    *,
    csb: bool,
    ssc: bool,
    timestep_salience: TimestepSalience = "per_timestep",
    balance_inputs: bool = False,
    tied: Iterable[str] = (),
) -> Float[Tensor, " channel"]:
    """``b_x`` of one site (PTQ4DiT eq. 6): ones without CSB, and for channels that nothing is to balance.

    Args:
        stats: calibration of the float model.
        layer: the site.
        csb: balance at all.
        ssc: with one salience for all timesteps instead of the middle timestep's.
        timestep_salience: how SSC forms it, see `activation_salience`.
        balance_inputs: balance channels, too, whose factor nothing in front can absorb; ones if not.
        tied: other sites that must share the factor: the largest salience of all counts, activations' and weights'.
    """
    weight = _largest(stats.weight_salience[name] for name in (layer.name, *tied))
    if not csb or not (layer.absorbs or balance_inputs):
        return torch.ones_like(weight)
    if not ssc:
        chosen = _largest(middle_timestep_salience(stats.activation_salience[name]) for name in (layer.name, *tied))
    else:
        chosen = activation_salience(stats, layer.name, timestep_salience, tied)
    factor, _ = balance_factors(shared_maximum(layer.absorber, chosen), shared_maximum(layer.absorber, weight))
    absorbed = absorbed_channels(layer.absorber, len(factor))
    return factor if balance_inputs else torch.where(absorbed, factor, 1.0).to(factor.dtype)


def activation_salience(
    stats: Calibration, layer: str, way: TimestepSalience, tied: Iterable[str] = ()
) -> Float[Tensor, " channel"]:
    """One activation salience of a site for all timesteps, ``(d_in,)``; the largest over tied sites.

    - ``"per_timestep"``: PTQ4DiT eq. 10, timesteps weighed by their rho.
    - ``"per_sample"``: as the released code, single sequences weighed by their own rho.
    - ``"mean"``, ``"max"``: over timesteps, without rho.

    Raises:
        ValueError: for ``"per_sample"`` of statistics that were rescaled, not observed.
    """
    names = (layer, *tied)
    if way == "per_sample":
        if missing := [name for name in names if name not in stats.sample_salience]:
            raise ValueError(
                f'timestep_salience="per_sample" needs statistics that were observed: those of {missing[0]} were '
                "rescaled from another model's. Calibrate this model, or use another way."
            )
        return _largest(stats.sample_salience[name] for name in names)
    salience = _largest(stats.activation_salience[name] for name in names)
    if way == "per_timestep":
        return calibrated_salience(salience, _largest(stats.weight_salience[name] for name in names))
    return salience.mean(dim=0) if way == "mean" else salience.amax(dim=0)


def model_factors(
    stats: Calibration, layers: Mapping[str, Layer], config: QuantConfig
) -> dict[str, Float[Tensor, " channel"]]:
    """``b_x`` of every site that CSB balances; empty without CSB. Tied sites have one factor."""
    if not config.csb:
        return {}
    return {
        name: layer_factor(
            stats,
            layer,
            csb=True,
            ssc=config.ssc,
            timestep_salience=config.timestep_salience,
            balance_inputs=balances_itself(layer, config),
            tied=tied_names(layer, layers),
        )
        for name, layer in layers.items()
        if layer.absorbs or balances_itself(layer, config)
    }


def tied_names(layer: Layer, layers: Mapping[str, Layer]) -> list[str]:
    """The other sites that must have this one's factor."""
    source = layer.tied_to or layer.name
    return [name for name, other in layers.items() if name != layer.name and (other.tied_to or name) == source]


def absorbed(factors: Factors, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """The part of factors that something in front takes in (`reparameterize`); sites without any are left out."""
    return {
        name: split_factor(layers[name].absorber, factor)[0] for name, factor in factors.items() if layers[name].absorbs
    }


def left_over(factors: Factors, layer: Layer) -> Tensor | None:
    """The part of a layer's factor that it multiplies by itself; None without a factor."""
    return split_factor(layer.absorber, factors[layer.name])[1] if layer.name in factors else None


def _largest(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).amax(dim=0)


def _changed(config: LayerConfig, **fields: object) -> LayerConfig:
    return config if all(getattr(config, k) == v for k, v in fields.items()) else type(config)(**vars(config) | fields)
