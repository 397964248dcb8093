"""Convert a float transformer into a quantized one: fold factors, choose ranges, have its layers replaced."""

import copy
import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.calibration.attention_names import value_factors
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import LayerConfig, QuantConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.model.families.absorber import InputFactor, Split, split_factor
from ptq4dit.model.families.registry import family_of
from ptq4dit.model.layers import EXTRA_ROLES, Layer, balanced_layers, extra_layers, require_finite, unknown_layer
from ptq4dit.model.proof import prove
from ptq4dit.model.streamed import own_folder, weights
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.quantized.activation import is_static
from ptq4dit.quantized.attention_ranges import fill_attentions, rounded_attentions
from ptq4dit.quantized.balance import absorbed, layer_settings, left_over
from ptq4dit.quantized.install import Build, install, make_clock, unfilled
from ptq4dit.quantized.ranges import layer_range
from ptq4dit.quantized.record import QuantRecord, summarize
from ptq4dit.quantized.timestep_groups import TimestepClock
from ptq4dit.sharing import shared, team


def quantized_layers(transformer: nn.Module, config: QuantConfig) -> dict[str, Layer]:
    """The layers that a config quantizes: every site, and the others that are switched on.

    Raises:
        ValueError: if a switch is on that the family has no layers for.
    """
    extras = extra_layers(transformer)
    wanted = [role for role in EXTRA_ROLES if getattr(config, role)]
    if missing := [role for role in wanted if role not in {layer.role for layer in extras.values()}]:
        raise ValueError(
            f"{missing[0]}=True: which layers of a {type(transformer).__name__} that means is not known; the DiT's are."
            f" Set {missing[0]}=False."
        )
    return balanced_layers(transformer) | {name: layer for name, layer in extras.items() if layer.role in wanted}


def settings_of(layers: Mapping[str, Layer], config: QuantConfig) -> dict[str, LayerConfig]:
    """How each layer is quantized."""
    return {name: layer_settings(layer, config) for name, layer in layers.items()}


def convert(
    dit: Dit,
    stats: Calibration,
    config: QuantConfig,
    factors: Mapping[str, Float[Tensor, " channel"]] | None = None,
    *,
    layers: Mapping[str, Layer] | None = None,
    offload: Path | None = None,
) -> Dit:
    """Fold factors and round to nearest; what every method starts from.

    The salience of all layers is taken from the float model as calibrated; the factors are folded at once.

    Args:
        dit: a float bundle, left as it is.
        stats: its calibration.
        config: bits, granularity, ranges, and which layers.
        factors: site name -> ``b_x``, folded by `reparameterize`; what nothing can absorb becomes part of the layers
            that multiply by it themselves (``config.balance_inputs``).
        layers: `quantized_layers` of the model, if the caller has them and has seen that model and statistics fit.
        offload: folder for the integers of a model whose weights are on disk: one layer at a time is in memory. None
            for one beside the weights, which is gone with the result.

    Returns:
        The bundle with a transformer of the same class whose layers are `QuantizedLinear`.

    Raises:
        ValueError: if the model is quantized already, ``stats`` belong to another one, a weight is not finite, an
            override is for no layer, a factor for one that cannot be balanced, or folding changes what the model
            makes of ``stats.example``.
    """
    factors = factors or {}
    if layers is None:
        stats.require_model(dit.transformer)
        require_finite(dit.transformer)
        layers = quantized_layers(dit.transformer, config)
    settings = settings_of(layers, config)
    _require_overridden(list(layers), config)
    _require_balanced(factors, layers, settings)
    attentions = rounded_attentions(dit.transformer, stats, config)
    folded = absorbed(factors, layers)
    transformer = reparameterize(dit.transformer, folded) if folded else copy.deepcopy(dit.transformer)
    if folded and stats.example is not None:
        prove(dit.transformer, transformer, stats.example)
    values = value_factors(dit.transformer, folded, layers)
    seen = stats.scaled(factors, values) if factors else stats
    clock = make_clock(config)
    groups = [slice(None)] if clock is None else clock.fit(stats.timesteps)

    def fill(name: str, linear: nn.Module, layer: LayerConfig) -> nn.Module:
        empty = unfilled(linear, layer, clock)
        limits = layer_range(seen, name, layer, groups, empty.rotation) if is_static(layer) else None
        own = left_over(factors, layers[name]) if layer.input_factor else None
        return type(empty).from_float(linear, layer, limits, clock, own)  # type: ignore[arg-type]

    build = fill if team().count == 1 else _shared_out(transformer, layers, settings, fill, clock)
    install(transformer, layers, settings, config, build, clock, offload or own_folder(transformer), attentions)
    fill_attentions(transformer, attentions, seen, config, groups)
    transformer.ptq4dit_record = QuantRecord(
        config=config,
        calibration=stats.config,
        statistics=summarize(stats, layers),
        model=stats.model,
        layers={name: layer.paths for name, layer in layers.items()},
        settings=settings,
        attentions=tuple(attentions) if family_of(transformer).name != "dit" else (),  # whose are known
    )
    return dit.with_transformer(transformer.eval())


def _shared_out(
    transformer: nn.Module,
    layers: Mapping[str, Layer],
    settings: Mapping[str, LayerConfig],
    fill: Build,
    clock: TimestepClock | None,
) -> Build:
    """What builds the same layers as ``fill``, in the order of `install`, each by one of the processes at work."""

    def make(place: tuple[str, str]) -> list[Tensor]:
        name, path = place
        linear = transformer.get_submodule(path)
        with weights(linear):
            return list(fill(name, linear, settings[name]).state_dict().values())

    made = shared([(name, path) for name, layer in layers.items() for path in layer.paths], make)

    def build(_name: str, linear: nn.Module, layer: LayerConfig) -> nn.Module:
        result = unfilled(linear, layer, clock)
        result.load_state_dict(dict(zip(result.state_dict(), next(made), strict=True)))
        return result

    return build


def _require_balanced(factors: Mapping[str, Tensor], layers: Mapping[str, Layer], settings: Mapping[str, Any]) -> None:
    for name, factor in factors.items():
        layer = layers.get(name)
        if layer is None or not layer.inside:
            raise ValueError(unknown_layer(name, {k: v for k, v in layers.items() if v.inside}))
        own = split_factor(layer.absorber, factor)[1]
        if not settings[name].input_factor and bool((own != 1).any()):
            raise ValueError(
                f"Expected factors where something in front absorbs them, got one for {name!r}: {_in_front(layer)}. "
                "Leave it out, or quantize with balance_inputs=True (balance_fc2=True)."
            )


def _in_front(layer: Layer) -> str:
    parts = layer.absorber.parts if isinstance(layer.absorber, Split) else ((None, layer.absorber),)
    return next((part.why for _, part in parts if isinstance(part, InputFactor)), "nothing can")


def _require_overridden(layers: list[str], config: QuantConfig) -> None:
    for pattern in (override.pattern for override in config.overrides):
        if not any(fnmatchcase(name, pattern) or name == pattern for name in (*layers, "attention")):
            raise ValueError(
                f"Expected an override for a layer that is quantized, got {pattern!r}, which matches none of "
                f"{layers[0]}, ..., {layers[-1]}."
            )


def describe(model: Dit) -> dict[str, Any]:
    """What made a model, as plain JSON values, for whatever shows or stores its results.

    Returns:
        ``{"source", "quantized", ...}``; for a quantized model also ``"label"`` (such as ``"W4A8"``), ``"backend"``,
        ``"config"``, ``"calibration"``, ``"statistics"`` and the ``"model"`` fingerprint.
    """
    record = getattr(model.transformer, "ptq4dit_record", None)
    if record is None:
        return {
            "source": model.source,
            "quantized": False,
            "label": "FP",
            "dtype": str(model.dtype),
            "frequencies": model.frequencies,
        }
    return {
        "source": model.source,
        "quantized": True,
        "label": record.config.label,
        "frequencies": model.frequencies,
        "backend": record.config.backend,
        "config": dataclasses.asdict(record.config),
        "calibration": dataclasses.asdict(record.calibration),
        "statistics": dict(record.statistics),
        "model": record.model,
        "torch": torch.__version__,
    }
