"""Where one channel stands on the grid that its layer's input is rounded to: with it, without it, balanced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from app.services.cache import shared
from app.services.inspection import layer_view
from app.services.models import explored
from app.services.sites import require_layer, site
from app.state import brief

if TYPE_CHECKING:
    from torch import Tensor

    from ptq4dit import Calibration

BINS = 72
VALUES = 2_000_000  # looked at; of more, every so many-th row
MIDDLE = 99.0  # per cent of the other channels' values whose levels are counted


def require_channel(model: str, layer: str, channel: int) -> int:
    """The number of a layer's input channels. Raises ValueError for an unknown layer, or a channel that it lacks."""
    require_layer(model, layer)
    count = int(explored(model).stats.samples[layer].shape[-1])
    if not 0 <= channel < count:
        raise ValueError(f"channel: expected 0 to {count - 1} in {layer}; got {brief(channel)}")
    return count


def most_salient_channel(model: str, layer: str, strength: int) -> int:
    """The input channel of a layer whose activation reaches farthest over all timesteps."""
    from ptq4dit.paper.salience import most_salient

    require_layer(model, layer)
    return most_salient(explored(model, strength).stats.activation_salience[layer], 1)[0]


@shared(maxsize=256)
def channel_grid(model: str, layer: str, channel: int, activation_bits: int, strength: int) -> dict[str, Any]:
    """The grid of a layer's input in three ways: rounded, without the channel's part in the range, balanced.

    For each its first level, step and number of levels; histograms of the channel's values, where it is rounded, and of
    all others' over one span; and on how many levels the middle 99 % of the others' values stand. Without a grid where
    activations stay in float; the balanced way only where something balances the layer.

    Raises ValueError for a layer or channel that there is not.
    """
    count = require_channel(model, layer, channel)
    stats = explored(model, strength).stats
    rows = np.asarray(stats.samples[layer].flatten(0, 1)[:: max(1, count * _tokens(stats, layer) // VALUES)].float())
    low, high = (np.asarray(kind[layer]) for kind in (stats.activation_min, stats.activation_max))
    others = np.arange(count) != channel
    ways = {"rounded": _way(rows, low, high, channel, activation_bits, others | True)}
    ways["spared"] = _way(rows, low, high, channel, activation_bits, others)
    if site(model, layer).balanced:
        by = layer_view(model, layer, True, True, strength).factors
        ways["balanced"] = _way(rows * by, low * by, high * by, channel, activation_bits, others | True)
    return {"layer": layer, "channel": channel, "channels": count, "bits": activation_bits, "ways": ways}


def _tokens(stats: Calibration, layer: str) -> int:
    return int(stats.samples[layer].shape[:2].numel())


def _way(
    rows: np.ndarray, low: np.ndarray, high: np.ndarray, channel: int, bits: int, ranged: np.ndarray
) -> dict[str, Any]:
    """One way's grid, over the range of the channels in `ranged`, and who stands where on it."""
    own, rest = rows[:, channel], np.delete(rows, channel, axis=1).ravel()
    found = _grid(float(low[:, ranged].min()), float(high[:, ranged].max()), bits)
    ends = [float(low[:, ranged].min()), float(high[:, ranged].max())]
    if found:
        ends = [min(ends[0], found["first"]), max(ends[1], found["first"] + found["step"] * (found["levels"] - 1))]
        middle = np.percentile(rest, [(100 - MIDDLE) / 2, (100 + MIDDLE) / 2])
        steps = np.clip(np.round((middle - found["first"]) / found["step"]), 0, found["levels"] - 1)
        found["used"] = int(steps[1] - steps[0]) + 1
    counts = {"own": own if ranged[channel] else own[:0], "rest": rest}
    return found | {"low": ends[0], "high": ends[1]} | {name: _counts(values, ends) for name, values in counts.items()}


def _grid(low: float, high: float, bits: int) -> dict[str, Any]:
    """First level, step and number of levels of the static grid over a range; nothing for float."""
    import torch

    from ptq4dit.config.quantization import FLOAT_BITS, LayerConfig
    from ptq4dit.numerics.affine import affine_from_range
    from ptq4dit.quantized.activation import activation_spec

    if bits == FLOAT_BITS:
        return {}
    ends: list[Tensor] = [torch.tensor(value) for value in (low, high)]
    scale, zero_point = affine_from_range(ends[0], ends[1], activation_spec(LayerConfig(activation_bits=bits)))
    return {"first": -int(zero_point) * float(scale), "step": float(scale), "levels": 2**bits}


def _counts(values: np.ndarray, ends: list[float]) -> list[int]:
    """How many values lie in each bin; rows are kept in half precision, so that one may lie a hair outside."""
    span = ends[0], max(ends[1], ends[0] + 1e-12)
    counted: list[int] = np.histogram(np.clip(values, *span), bins=BINS, range=span)[0].tolist()
    return counted
