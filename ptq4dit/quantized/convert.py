"""Convert a float DiT into a quantized one: fold factors, choose ranges, replace layers."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import FLOAT_BITS, LayerConfig, QuantConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.model.layers import Layer, balanced_layers, extra_layers, require_finite
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.quantized.activation import is_static
from ptq4dit.quantized.attention import QuantizedAttnProcessor
from ptq4dit.quantized.balance import absorbed
from ptq4dit.quantized.linear import QuantizedLinear, QuantizedPatchEmbed
from ptq4dit.quantized.ranges import layer_range
from ptq4dit.quantized.record import QuantRecord, summarize
from ptq4dit.quantized.timestep_groups import TimestepClock, attach_clock


def quantized_layers(transformer: nn.Module, config: QuantConfig) -> dict[str, Layer]:
    """The layers that a config quantizes: the four roles of every block, and the others that are switched on."""
    chosen = {name: layer for name, layer in extra_layers(transformer).items() if getattr(config, layer.role)}
    return balanced_layers(transformer) | chosen


def convert(
    dit: Dit, stats: Calibration, config: QuantConfig, factors: Mapping[str, Float[Tensor, " channel"]] | None = None
) -> Dit:
    """Fold factors and round to nearest; what every method starts from.

    The salience of all layers is taken from the float model as calibrated; the factors are folded at once.

    Args:
        dit: a float bundle, left as it is.
        stats: its calibration.
        config: bits, granularity, ranges, and which layers.
        factors: layer name -> ``b_x``, folded by `reparameterize`; those of layers that balance their input
            themselves (``config.balance_fc2``) become part of these.

    Returns:
        The bundle with a ``DiTTransformer2DModel`` whose layers are `QuantizedLinear`.

    Raises:
        ValueError: if the model is quantized already, ``stats`` belong to another one, a weight is not finite, an
            override is for no layer, or a factor for one that cannot be balanced.
    """
    stats.require_model(dit.transformer)
    require_finite(dit.transformer)
    _require_overridden(list(quantized_layers(dit.transformer, config)), config)
    folded, factors = absorbed(factors or {}, config), factors or {}
    transformer = reparameterize(dit.transformer, folded) if folded else copy.deepcopy(dit.transformer)
    seen = stats.rescaled_for(factors, transformer) if factors else stats
    clock = make_clock(config)
    groups = [slice(None)] if clock is None else clock.fit(stats.timesteps)

    def fill(name: str, linear: nn.Module, layer: LayerConfig) -> nn.Module:
        empty = unfilled(linear, layer, clock)
        limits = layer_range(seen, name, layer, groups, empty.rotation) if is_static(layer) else None
        return type(empty).from_float(linear, layer, limits, clock, None if name in folded else factors.get(name))  # type: ignore[arg-type]

    install(transformer, config, fill, clock)
    _fill_attention(transformer, seen, config, groups)
    transformer.ptq4dit_record = QuantRecord(
        config=config,
        calibration=stats.config,
        statistics=summarize(stats),
        model=stats.model,
        layers=tuple(quantized_layers(dit.transformer, config)),
    )
    return dit.with_transformer(transformer.eval())


def _require_overridden(layers: list[str], config: QuantConfig) -> None:
    for pattern in (override.pattern for override in config.overrides):
        if not any(fnmatchcase(name, pattern) or name == pattern for name in (*layers, "attention")):
            raise ValueError(
                f"Expected an override for a layer that is quantized, got {pattern!r}, which matches none of "
                f"{layers[0]}, ..., {layers[-1]}."
            )


def make_clock(config: QuantConfig) -> TimestepClock | None:
    """The clock of a model whose scales depend on the timestep, its boundaries not placed yet."""
    return TimestepClock(config.timestep_groups) if config.activation_granularity == "per_timestep_group" else None


def unfilled(linear: nn.Module, config: LayerConfig, clock: TimestepClock | None) -> QuantizedLinear:
    """A quantized layer of the shape of a float one, to be filled by a state dict."""
    if isinstance(linear, nn.Conv2d):
        return QuantizedPatchEmbed(linear, config, clock)
    assert isinstance(linear, nn.Linear)
    return QuantizedLinear(linear, config, clock)


def install(
    transformer: nn.Module,
    config: QuantConfig,
    build: Callable[[str, nn.Module, LayerConfig], nn.Module],
    clock: TimestepClock | None,
) -> None:
    """Replace the layers that a config names, in place; the attention processors are replaced by unfilled ones.

    Args:
        transformer: a float transformer.
        config: which layers, and how.
        build: (layer name, float layer, its settings) -> quantized layer.
        clock: becomes part of the transformer.
    """
    if clock is not None:
        attach_clock(transformer, clock)
    sites = [(name, path) for name, layer in quantized_layers(transformer, config).items() for path in layer.paths]
    for name, path in sites:  # names only: each float layer is freed once it is replaced
        try:
            transformer.set_submodule(path, build(name, transformer.get_submodule(path), config.layer(name)))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    if config.attention_bits != FLOAT_BITS or config.softmax_bits != FLOAT_BITS:
        for block in transformer.get_submodule("transformer_blocks").children():
            attention: Any = block.get_submodule("attn1")
            attention.set_processor(_processor(config, clock, attention))


def _processor(config: QuantConfig, clock: TimestepClock | None, attention: nn.Module) -> QuantizedAttnProcessor:
    layer = dataclasses.replace(config.layer("attention"), activation_group_size=None)
    return QuantizedAttnProcessor(
        layer,
        attention_bits=config.attention_bits,
        softmax_bits=config.softmax_bits,
        softmax=config.option("softmax", "uniform"),
        clock=clock,
    ).to(next(attention.buffers()).device)


def _fill_attention(transformer: nn.Module, stats: Calibration, config: QuantConfig, groups: list[slice]) -> None:
    for index, block in enumerate(transformer.get_submodule("transformer_blocks").children()):
        processor = getattr(block.get_submodule("attn1"), "processor", None)
        if isinstance(processor, QuantizedAttnProcessor) and config.activation_granularity != "per_token":
            layer = config.layer("attention")
            sites = {part: f"blocks.{index}.{part}" for part in ("q", "k", "v", "softmax")}
            processor.set_ranges(**{part: layer_range(stats, site, layer, groups) for part, site in sites.items()})


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
