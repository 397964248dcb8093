"""Look-ups for the lessons about other methods, on one layer: scales of tokens and groups, rotation, a float branch.

Every error is ``||Q(X) Q(W) - X W||^2 / ||X W||^2`` on the calibration's kept rows, simulated, with weight ranges
searched as everywhere in the app; of a very wide layer on evenly spaced output channels (`MOST_OUTPUTS` a linear).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app.services.cache import shared
from app.services.models import explored
from app.services.sites import require_layer, sites, variants_of

if TYPE_CHECKING:
    from torch import Tensor

    from ptq4dit.config.quantization import LayerConfig

MOST_OUTPUTS = 1024
GROUP_SIZES = (64, 48, 32, 16, 8, 4)
RANKS = (0, 4, 8, 16, 32, 64)
NONE, BALANCED = "none", "csb+ssc"
SCALES = (NONE, "token", "weights", "both")
"""What shares a scale: all tokens; one token; that, and a group of weights; a group of both."""
ROTATED = "rotated"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scales:
    """What one scale has to span, and what is lost with each choice of what shares it.

    tokens: (row,) the range of each kept row, the smallest first; groups: (row, group) ranges of its groups of
    channels, in the same order, None where no group size divides the channels; whole: the range of all timesteps; size:
    of a group; errors: `SCALES` and, where the layer is balanced, `BALANCED`; inputs, outputs: channels of the site;
    every: each so manyeth output channel is measured.
    """

    tokens: np.ndarray
    groups: np.ndarray | None
    whole: float
    size: int | None
    errors: Mapping[str, float]
    inputs: int
    outputs: int
    every: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Rotated:
    """One layer's kept rows as they are and rotated.

    before, after: (channel,) largest magnitude over the rows; mixed: so many channels are mixed with each other; share:
    multiplications that the rotation adds for every one of the layer's; errors: none, rotated, balanced.
    """

    before: np.ndarray
    after: np.ndarray
    mixed: int
    share: float
    errors: Mapping[str, float]
    every: int


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRank:
    """One layer with a float branch beside it, its channels smoothed where a normalization stands in front.

    singular: (n,) singular values of the first linear's smoothed weight; errors: by rank; plain: without anything;
    balanced: with CSB and SSC, None where the layer has none; shares: multiplications that the branch adds for every
    one of the layer's, by rank; smoothed: whether channels were smoothed.
    """

    singular: np.ndarray
    errors: Mapping[int, float]
    plain: float
    balanced: float | None
    shares: Mapping[int, float]
    smoothed: bool
    every: int

    def nearest(self, rank: int) -> int:
        """The measured rank nearest to the one asked for."""
        return min(self.errors, key=lambda known: abs(known - rank))


@shared(maxsize=64)
def scales(model: str, layer: str, strength: int, weight_bits: int, activation_bits: int) -> Scales:
    """Ranges and errors of one layer. Raises ValueError for an unknown layer or one without kept rows."""
    rows, stats = kept_rows(model, layer, strength), explored(model, strength).stats
    size = group_size(rows.shape[1])
    whole = _span(stats.activation_min[layer].amin(), stats.activation_max[layer].amax())
    tokens = _span(rows.amin(1), rows.amax(1))
    order = np.argsort(tokens, kind="stable")
    grouped = None if size is None else rows.unflatten(1, (-1, size))
    ways = (*(SCALES if size else SCALES[:2]), *_balanced(model, layer))
    return Scales(
        tokens=tokens[order],
        groups=None if grouped is None else _span(grouped.amin(2), grouped.amax(2))[order],
        whole=float(whole),
        size=size,
        errors={way: error(model, layer, strength, weight_bits, activation_bits, way) for way in ways},
        inputs=rows.shape[1],
        outputs=_outputs(model, layer, strength),
        every=_every(model, layer, strength),
    )


@shared(maxsize=64)
def rotation(model: str, layer: str, strength: int, weight_bits: int, activation_bits: int) -> Rotated:
    """A layer's channels before and after the rotation, and the errors. Raises ValueError as `scales` does."""
    from ptq4dit.numerics.rotation import Rotation, factors

    rows = kept_rows(model, layer, strength)
    left, right = factors(rows.shape[1])
    ways = (NONE, ROTATED, *_balanced(model, layer))
    return Rotated(
        before=np.asarray(rows.abs().amax(0)),
        after=np.asarray(Rotation(width=rows.shape[1]).apply(rows).abs().amax(0)),
        mixed=left * right,
        share=(left + right) / _outputs(model, layer, strength),
        errors={way: error(model, layer, strength, weight_bits, activation_bits, way) for way in ways},
        every=_every(model, layer, strength),
    )


@shared(maxsize=64)
def low_rank(model: str, layer: str, strength: int, weight_bits: int, activation_bits: int) -> LowRank:
    """A layer with branches of several ranks, as SVDQuant's. Raises ValueError as `scales` does."""
    import torch

    from ptq4dit.quantized.trial import site_errors

    kept_rows(model, layer, strength)
    about, stats = sites(model, strength)[layer], explored(model, strength).stats
    smoothing = smoothing_factor(model, layer, strength)
    shapes = [(linear.weight.shape[0], about.in_features) for linear in about.linears]
    ranks = [rank for rank in RANKS if rank <= min(min(shape) for shape in shapes) // 2]
    first = about.linears[0].weight.detach().flatten(1).float()
    bits = weight_bits, activation_bits
    return LowRank(
        singular=np.asarray(torch.linalg.svdvals(first if smoothing is None else first / smoothing)),
        errors=site_errors(
            about, stats, _config(layer, *bits), factor=smoothing, ranks=ranks, most_outputs=MOST_OUTPUTS
        ),
        plain=error(model, layer, strength, *bits, NONE),
        balanced=next((error(model, layer, strength, *bits, way) for way in _balanced(model, layer)), None),
        shares={
            r: r * sum(out + inner for out, inner in shapes) / sum(out * inner for out, inner in shapes) for r in ranks
        },
        smoothed=smoothing is not None,
        every=_every(model, layer, strength),
    )


@shared(maxsize=1024)
def error(model: str, layer: str, strength: int, weight_bits: int, activation_bits: int, way: str) -> float:
    """What is lost of one layer's output in one way: of `SCALES`, `ROTATED` or `BALANCED`."""
    from ptq4dit.quantized.trial import site_errors

    about, size = sites(model, strength)[layer], group_size(sites(model, strength)[layer].in_features)
    changes: dict[str, dict[str, Any]] = {
        "token": {"activation_granularity": "per_token"},
        "weights": {"activation_granularity": "per_token", "group_size": size},
        "both": {"activation_granularity": "per_token", "group_size": size, "activation_group_size": size},
        ROTATED: {"rotation": True},
    }
    config = _config(layer, weight_bits, activation_bits, **changes.get(way, {}))
    factor = balancing_factor(model, layer, strength) if way == BALANCED else None
    stats = explored(model, strength).stats
    return site_errors(about, stats, config, factor=factor, most_outputs=MOST_OUTPUTS)[0]


def kept_rows(model: str, layer: str, strength: int) -> Tensor:
    """The calibration's rows of a layer's input, (row, channel). Raises ValueError where it kept none."""
    from ptq4dit.quantized.trial import require_rows

    require_layer(model, layer)
    return require_rows(explored(model, strength).stats, layer).samples[layer].float().flatten(0, 1)


def group_size(channels: int) -> int | None:
    """How many channels share a scale in the lesson; None where no size of `GROUP_SIZES` divides them."""
    return next((size for size in GROUP_SIZES if channels % size == 0 and size < channels), None)


def balancing_factor(model: str, layer: str, strength: int) -> Tensor:
    """``b_x`` (channel,) of CSB with SSC."""
    from ptq4dit.config.quantization import QuantConfig
    from ptq4dit.quantized.balance import balances_itself, layer_factor, tied_names

    layers, stats = sites(model, strength), explored(model, strength).stats
    own = balances_itself(layers[layer], QuantConfig())
    tied = tied_names(layers[layer], layers)
    return layer_factor(stats, layers[layer], csb=True, ssc=True, balance_inputs=own, tied=tied)


def smoothing_factor(model: str, layer: str, strength: int) -> Tensor | None:
    """SmoothQuant's factor (channel,) with alpha 1/2, as SVDQuant has it; None where no normalization is in front."""
    from ptq4dit.methods.smoothquant import smoothed, smoothing_factors
    from ptq4dit.quantized.balance import tied_names

    layers, chosen = sites(model, strength), explored(model, strength)
    if layer not in smoothed(chosen.dit.transformer, layers):
        return None
    return smoothing_factors(chosen.stats, [layer], 0.5, {layer: tied_names(layers[layer], layers)})[layer]


def _config(layer: str, weight_bits: int, activation_bits: int, **changes: Any) -> LayerConfig:
    from ptq4dit.config.quantization import QuantConfig

    given: dict[str, Any] = {"weight_bits": weight_bits, "activation_bits": activation_bits, **changes}
    return QuantConfig(csb=False, ssc=False, **given).layer(layer)


def _balanced(model: str, layer: str) -> tuple[str, ...]:
    return (BALANCED,) if BALANCED in variants_of(model, layer) else ()


def _outputs(model: str, layer: str, strength: int) -> int:
    return sum(linear.weight.shape[0] for linear in sites(model, strength)[layer].linears)


def _every(model: str, layer: str, strength: int) -> int:
    from ptq4dit.quantized.trial import stride

    return max(stride(linear.weight.shape[0], MOST_OUTPUTS) for linear in sites(model, strength)[layer].linears)


def _span(low: Tensor, high: Tensor) -> np.ndarray:
    """The range that a grid covers, which always holds zero."""
    return np.asarray(high.clamp(min=0) - low.clamp(max=0))
