"""One channel from its values to the levels it leaves to others, with and without balancing; where its factor goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.services.alternatives import balancing_factor, kept_rows
from app.services.cache import shared
from app.services.inspection import layer_view
from app.services.learning import calibrated, middle
from app.services.models import explored
from app.services.sites import site, sites
from app.state import LAST_CHANNEL

if TYPE_CHECKING:
    from torch import Tensor

    from ptq4dit.model.layers import Layer


@dataclass(frozen=True, kw_only=True, eq=False)
class Story:
    """One channel of a layer's input.

    values, ordinary: (row,) kept values of the channel and of `other`, the one with the median range; low, high: the
    range of all channels; levels, balanced_levels: (channel,) how many levels of the grid each channel's range covers;
    step, balanced_step: of that grid; activation, weight: the channel's salience before and after; factor: b; makers:
    the modules that absorb b; why: the reason where some of it is not absorbed; readers: those with its inverse;
    difference: of the product, measured on the kept rows; salience: (t,) of the channel; average: what SSC makes of it.
    """

    channel: int
    other: int
    channels: int
    values: np.ndarray
    ordinary: np.ndarray
    low: float
    high: float
    step: float
    levels: np.ndarray
    balanced: bool
    balanced_step: float
    balanced_levels: np.ndarray
    activation: tuple[float, float]
    weight: tuple[float, float]
    factor: float
    makers: tuple[str, ...]
    itself: bool
    why: str
    readers: tuple[str, ...]
    difference: float
    timesteps: np.ndarray
    salience: np.ndarray
    average: float


@shared(maxsize=128)
def story(model: str, layer: str, strength: int, channel: int, activation_bits: int) -> Story:
    """The story of one channel, or of the most salient one for -1 or a channel that the layer lacks.

    `activation_bits` of 16 count as 8: the story is about a grid. Raises ValueError for an unknown layer.
    """
    from ptq4dit.model.families.absorber import absorbing_paths

    rows, view, about = (
        kept_rows(model, layer, strength),
        layer_view(model, layer, True, True, strength),
        site(model, layer),
    )
    at, stats = middle(view), explored(model, strength).stats
    low, high = (np.asarray(part[layer].float()) for part in (stats.activation_min, stats.activation_max))
    low, high = np.minimum(low.min(0), 0), np.maximum(high.max(0), 0)
    chosen = channel if 0 <= channel < min(len(low), LAST_CHANNEL) else int(view.activation[at].argmax())
    typical = int(np.argsort(high - low, kind="stable")[len(low) // 2])
    most = 2 ** (activation_bits if activation_bits <= 8 else 8) - 1
    step, levels = _levels(low, high, most)
    balanced_step, balanced_levels = _levels(low * view.factors, high * view.factors, most)
    found = sites(model, strength)[layer]
    return Story(
        channel=chosen,
        other=typical,
        channels=len(low),
        values=np.asarray(rows[:, chosen]),
        ordinary=np.asarray(rows[:, typical]),
        low=float(low.min()),
        high=float(high.max()),
        step=step,
        levels=levels,
        balanced=view.balanced,
        balanced_step=balanced_step,
        balanced_levels=balanced_levels,
        activation=(float(view.activation[at][chosen]), float(view.balanced_activation[at][chosen])),
        weight=(float(view.weight[chosen]), float(view.balanced_weight[chosen])),
        factor=float(view.factors[chosen]),
        makers=tuple(absorbing_paths(found.absorber)),
        itself=about.itself,
        why=about.why,
        readers=tuple(found.paths),
        difference=_difference(rows, found, balancing_factor(model, layer, strength)),
        timesteps=view.timesteps,
        salience=view.activation[:, chosen],
        average=float(calibrated(view)[chosen]),
    )


def _levels(low: np.ndarray, high: np.ndarray, most: int) -> tuple[float, np.ndarray]:
    """The step of the grid that spans all channels, and how many of its levels each channel's range covers."""
    step = max((float(high.max()) - float(low.min())) / most, 1e-30)
    return step, np.floor(high / step + 0.5) - np.ceil(low / step - 0.5) + 1


def _difference(rows: Tensor, site: Layer, factor: Tensor) -> float:
    """``||X B B^-1 W - X W|| / ||X W||`` in 32-bit floats."""
    wrong = right = 0.0
    for linear in site.linears:
        weight = linear.weight.detach().float().flatten(1)
        exact = rows @ weight.T
        wrong += float(((rows * factor) @ (weight / factor).T - exact).square().sum())
        right += float(exact.square().sum())
    return float((wrong / max(right, 1e-30)) ** 0.5)
