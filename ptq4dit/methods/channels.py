"""What single channels do to a picture: kept in float, taken out or scaled, in one layer or in many, all else float."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ptq4dit.backends.shared_copies import shallow_copy
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import FLOAT_BITS, LayerConfig, QuantConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.model.layers import Layer, balanced_layers, unknown_layer
from ptq4dit.quantized.activation import is_static
from ptq4dit.quantized.balance import layer_settings
from ptq4dit.quantized.install import make_clock, unfilled
from ptq4dit.quantized.ranges import Range, grouped_range
from ptq4dit.quantized.sparing import SparingLinear, without
from ptq4dit.quantized.timestep_groups import TimestepClock, attach_clock


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelChange:
    """What is done to one site.

    Attributes:
        rounded: round its input and weights as the config says.
        kept: input channels that stay in float; the ranges of all others are found without them.
        gains: input channel -> what it is multiplied by, at least 0: 0 takes it out of the model. The picture changes,
            rounded or not. Where the site is rounded its range is that of the multiplied input.
        factor: ``b_x`` by which the layer balances its input before it rounds; None for none. The function stays.
    """

    rounded: bool = True
    kept: tuple[int, ...] = ()
    gains: Mapping[int, float] = field(default_factory=dict)
    factor: Float[Tensor, " channel"] | None = None


@torch.no_grad()
def change_channels(
    dit: Dit,
    stats: Calibration,
    config: QuantConfig,
    changes: Mapping[str, ChannelChange],
    *,
    layers: Mapping[str, Layer] | None = None,
) -> Dit:
    """A bundle with some sites changed and everything else in float, simulated.

    Nothing is folded: a site that is balanced multiplies its input by the factor itself, which rounds what folding it
    in front would round. So any site of any family can be changed alone.

    Args:
        dit: a float bundle, left as it is; the result shares the tensors of all that is not changed.
        stats: its calibration.
        config: bits and ranges; which layers, which method and whether to balance are not asked of it.
        changes: site name -> what is done to it.
        layers: `balanced_layers` of the transformer, if the caller has them and has seen that model and statistics fit.

    Raises:
        ValueError: if ``stats`` belong to another model, there is no such site or channel, a gain is out of range, or
            the config rotates, so that no channel is itself when it is rounded.
    """
    if config.rotation:
        raise ValueError("Expected rotation=False, where each channel is rounded as itself, got True. Leave it out.")
    if layers is None:
        stats.require_model(dit.transformer)
        layers = balanced_layers(dit.transformer)
    clock = make_clock(config)
    groups = [slice(None)] if clock is None else clock.fit(stats.timesteps)
    result = shallow_copy(dit.transformer)
    if clock is not None:
        attach_clock(result, clock)
    for name, change in changes.items():
        if name not in layers:
            raise ValueError(unknown_layer(name, layers))
        site = _Site(stats, layers[name], change, config, groups)
        for path in layers[name].paths:
            result.set_submodule(path, site.build(dit.transformer.get_submodule(path), clock))
    return dit.with_transformer(result.eval())


class _Site:
    """One site's settings, channels and range, shared by all its linears."""

    def __init__(
        self, stats: Calibration, layer: Layer, change: ChannelChange, config: QuantConfig, groups: list[slice]
    ) -> None:
        plain = dataclasses.replace(config, backend="simulated", balance_inputs=None, csb=False, ssc=False)
        channels = layer.in_features
        self._rest, self._gains = _rest(layer.name, channels, change), _gains(layer.name, channels, change)
        self._rounded, self._factor = change.rounded, change.factor
        self._settings = dataclasses.replace(layer_settings(layer, plain), input_factor=change.factor is not None)
        self._limits: Range | None = None
        if is_static(self._settings) and change.rounded:
            self._limits = _range(stats, layer.name, self._multiplied(), self._rest, self._settings, groups)

    def build(self, linear: nn.Module, clock: TimestepClock | None) -> nn.Module:
        """What stands in for one linear of the site."""
        assert isinstance(linear, nn.Linear | nn.Conv2d)
        rounded, float_bits = None, (FLOAT_BITS, FLOAT_BITS)
        if self._rounded and (self._settings.weight_bits, self._settings.activation_bits) != float_bits:
            kind = type(unfilled(linear, self._settings, clock))
            masked = without(linear, self._rest)
            rounded = kind.from_float(masked, self._settings, self._limits, clock, self._factor)  # type: ignore[arg-type]
        return SparingLinear(linear, rounded, self._rest, self._gains)

    def _multiplied(self) -> Tensor:
        """What calibrated input channels are multiplied by before they are rounded, ``(d_in,)``."""
        gains = self._gains.double()
        return gains if self._factor is None else gains * self._factor.double().cpu()


def _range(
    stats: Calibration, name: str, by: Tensor, rest: Bool[Tensor, " channel"], config: LayerConfig, groups: list[slice]
) -> Range:
    """The range of the channels that are rounded; that of nothing but zeros where there is none."""
    low, high = stats.activation_min[name] * by, stats.activation_max[name] * by
    rows = stats.samples[name].to(torch.float32) * by
    chosen = rest if bool(rest.any()) else torch.arange(len(rest)) == 0
    low, high = (values[:, chosen].to(stats.activation_min[name].dtype) for values in (low, high))
    rows = rows[..., chosen].to(torch.float32)
    if not rest.any():
        low, high, rows = torch.zeros_like(low), torch.zeros_like(high), torch.zeros_like(rows)
    return grouped_range(low, high, rows, config, groups)


def _rest(name: str, channels: int, change: ChannelChange) -> Bool[Tensor, " channel"]:
    """The channels that are rounded."""
    rest = torch.ones(channels, dtype=torch.bool)
    for channel in change.kept:
        _require_channel(name, channels, channel)
        rest[channel] = False
    return rest


def _gains(name: str, channels: int, change: ChannelChange) -> Float[Tensor, " channel"]:
    gains = torch.ones(channels)
    for channel, gain in change.gains.items():
        _require_channel(name, channels, channel)
        if not 0 <= gain < float("inf"):
            raise ValueError(f"Expected a finite gain of at least 0 for channel {channel} of {name!r}, got {gain}.")
        gains[channel] = gain
    return gains


def _require_channel(name: str, channels: int, channel: int) -> None:
    if not 0 <= channel < channels:
        raise ValueError(f"Expected input channels 0 to {channels - 1} of {name!r}, got {channel}.")
