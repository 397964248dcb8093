"""Put quantized layers in the place of float ones: built by whoever knows what they hold, installed here."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from ptq4dit.config.quantization import LayerConfig, QuantConfig
from ptq4dit.model.families.family import Site
from ptq4dit.model.families.registry import family_of
from ptq4dit.model.streamed import device_of, is_streamed, stream_buffers, weights
from ptq4dit.quantized.attention import AttentionRounding, QuantizedAttnProcessor, RoundedProduct, round_attention
from ptq4dit.quantized.linear import QuantizedLinear, QuantizedPatchEmbed
from ptq4dit.quantized.timestep_groups import TimestepClock, attach_clock

Build = Callable[[str, nn.Module, LayerConfig], nn.Module]
"""(layer name, float layer, its settings) -> quantized layer."""
_Kind = TypeVar("_Kind", bound=AttentionRounding)


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
    layers: Mapping[str, Site],
    settings: Mapping[str, LayerConfig],
    config: QuantConfig,
    build: Build,
    clock: TimestepClock | None,
    offload: Path | None = None,
    attentions: Collection[str] = (),
) -> None:
    """Replace layers, in place, and have attentions round by unfilled ranges.

    Args:
        transformer: a float transformer.
        layers: what is replaced; only names and paths are read.
        settings: how each is quantized.
        config: whose attention settings count.
        build: makes each.
        clock: becomes part of the transformer.
        offload: where layers go whose float ones are on disk.
        attentions: paths of those that are rounded.
    """
    device = device_of(transformer)
    if clock is not None:
        attach_clock(transformer, clock)
    places = [(name, path) for name, layer in layers.items() for path in layer.paths]
    for name, path in places:  # names only: each float layer is freed once it is replaced
        linear = transformer.get_submodule(path)
        try:
            with weights(linear):
                layer = build(name, linear, settings[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if offload is not None and is_streamed(linear):
            assert isinstance(layer, QuantizedLinear)
            layer.release()
            stream_buffers(layer, offload / path, device)
        transformer.set_submodule(path, layer)
    plain = family_of(transformer).name == "dit"
    for path in attentions:
        attention: Any = transformer.get_submodule(path)
        if plain:
            attention.set_processor(_rounding(QuantizedAttnProcessor, config, clock).to(device))
        else:
            round_attention(attention, _rounding(RoundedProduct, config, clock).to(device))


def _rounding(kind: type[_Kind], config: QuantConfig, clock: TimestepClock | None) -> _Kind:
    layer = dataclasses.replace(config.layer("attention"), activation_group_size=None)
    return kind(
        layer,
        attention_bits=config.attention_bits,
        softmax_bits=config.softmax_bits,
        softmax=config.option("softmax", "uniform"),
        clock=clock,
    )
