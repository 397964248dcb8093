"""Look-ups for the Learn tab: rounding by plain arithmetic, and what the explored model's layers show of each idea."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.content import readings
from app.services.cache import shared
from app.services.inspection import LayerView, layer_view
from app.services.models import explored
from app.services.sites import require_layer, site, sites
from app.state import brief

TOP = 10  # how many channels count as the most salient
VALUES = np.array([-1.17, -0.86, -0.52, -0.31, -0.12, 0.06, 0.27, 0.45, 0.71, 0.94, 1.33, 1.58, 2.1])
FOLLOWED = 9  # the one of VALUES whose rounding is written out
ORDINARY = np.linspace(-1, 1, 25)
OUTLIER_BITS = 4
LARGEST_OUTLIER = 30
MOST_STRETCH = 2.0
MOST_SHIFT = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounding:
    """Values (n,) on a uniform grid (PTQ4DiT eq. 2), the integers and what they stand for (n,), all levels (2^b,)."""

    bits: int
    scale: float
    zero_point: int
    values: np.ndarray
    integers: np.ndarray
    rounded: np.ndarray
    levels: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Balance:
    """One layer between as calibrated (amount 0) and balanced (amount 1), at its middle timestep.

    activation, weight: (channel,) salience after `X diag(b^amount)` and `diag(b^-amount) W`; middle: (channel,), s~ of
    eq. 5; factors: (channel,), b of eq. 6; difference: `||X~ W~ - X W|| / ||X W||` in 32-bit arithmetic on the stored
    rows.
    """

    timestep: int | float
    amount: float
    activation: np.ndarray
    weight: np.ndarray
    middle: np.ndarray
    factors: np.ndarray
    difference: float
    rows: int


def round_to_grid(values: np.ndarray, bits: int, stretch: float = 1.0, shift: int = 0) -> Rounding:
    """Round values (n,) to the grid of 2^bits levels that spans them, zero always being one (PTQ4DiT eq. 2).

    stretch: the scale as a multiple of the one that spans them; shift: added to the zero point that goes with it, which
    stays among the levels. Values beyond the grid go to its end.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits: expected 2 to 8; got {brief(bits)}")
    if not 0 < stretch <= MOST_STRETCH:
        raise ValueError(f"stretch: expected a multiple above 0, at most {MOST_STRETCH:g}; got {stretch!r}")
    low, high, most = min(float(values.min()), 0.0), max(float(values.max()), 0.0), 2**bits - 1
    scale = stretch * (high - low) / most
    zero_point = min(max(round(-low / scale) + int(shift), 0), most)
    integers = np.clip(np.rint(values / scale) + zero_point, 0, most).astype(int)
    return Rounding(
        bits=bits,
        scale=scale,
        zero_point=zero_point,
        values=values,
        integers=integers,
        rounded=scale * (integers - zero_point),
        levels=scale * (np.arange(most + 1) - zero_point),
    )


def clipped(rounding: Rounding) -> int:
    """How many values lie more than half a step beyond the ends of the grid."""
    half = 0.5 * rounding.scale * (1 + 1e-9)
    outside = (rounding.values < rounding.levels[0] - half) | (rounding.values > rounding.levels[-1] + half)
    return int(outside.sum())


def with_outlier(size: float) -> Rounding:
    """The ordinary values, none beyond 1, and after them one of the given size, on one grid of 4 bits."""
    if not 1 <= size <= LARGEST_OUTLIER:
        raise ValueError(f"size: expected 1 to {LARGEST_OUTLIER} times the largest ordinary value; got {brief(size)}")
    return round_to_grid(np.append(ORDINARY, float(size)), OUTLIER_BITS)


def ordinary_error(rounding: Rounding) -> float:
    """Root mean square error of the ordinary values over their root mean square: 0 exact, 1 all of it lost."""
    error = rounding.rounded[:-1] - rounding.values[:-1]
    return float(np.sqrt((error**2).mean() / (rounding.values[:-1] ** 2).mean()))


def ordinary_levels(rounding: Rounding) -> int:
    """How many different levels the ordinary values are rounded to."""
    return len(np.unique(rounding.integers[:-1]))


@shared(maxsize=1)
def outlier_curve() -> tuple[np.ndarray, np.ndarray]:
    """Sizes (n,) of the outlier and the ordinary values' error (n,) with each."""
    sizes = np.arange(1, LARGEST_OUTLIER + 0.25, 0.5)
    return sizes, np.array([ordinary_error(with_outlier(size)) for size in sizes])


def layer(model: str, name: str, strength: int) -> LayerView:
    """The layer as calibrated, with the timestep weights of SSC and the factors that it gives."""
    return layer_view(model, name, True, True, strength)


def note(model: str, name: str) -> str:
    """What is particular about balancing a layer, in words; empty where something in front absorbs its factors."""
    about = site(model, name)
    return readings.balancing_note(about.balanced, about.itself, about.why)


def middle(view: LayerView) -> int:
    """The index of the timestep that CSB without SSC looks at."""
    return len(view.timesteps) // 2


def top_channels(salience: np.ndarray) -> np.ndarray:
    """The numbers of the most salient of (channel,), the most salient first."""
    return np.argsort(-salience, kind="stable")[:TOP]


def coinciding(activation: np.ndarray, weight: np.ndarray) -> list[int]:
    """The channels that are among the most salient of both (channel,) saliences."""
    return sorted(int(channel) for channel in set(top_channels(activation)) & set(top_channels(weight)))


@shared(maxsize=8)
def coinciding_by_layer(model: str, strength: int) -> dict[str, int]:
    """Layer -> how many of the most salient channels of activation and weight coincide at its middle timestep."""
    stats = explored(model, strength).stats
    activations = {name: np.asarray(stats.activation_salience[name]) for name in stats.layers}
    return {
        name: len(coinciding(salience[len(salience) // 2], np.asarray(stats.weight_salience[name])))
        for name, salience in activations.items()
    }


@shared(maxsize=256)
def balance(model: str, name: str, strength: int, amount: float) -> Balance:
    """Channel-wise salience balancing of one layer, carried out to `amount` in 0..1. Raises ValueError for others.

    For fc2, too, the factors are those of eq. 6, though nothing in front of it could absorb them.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount: expected 0 (as calibrated) to 1 (balanced); got {brief(amount)}")
    rows, weight, activation_salience, weight_salience, timestep = _operands(model, name, strength)
    factors = _factors(activation_salience, weight_salience)
    moved = (factors**amount).astype(np.float32)
    product, after = rows @ weight, (rows * moved) @ (weight / moved[:, None])
    return Balance(
        timestep=timestep,
        amount=amount,
        activation=activation_salience * moved,
        weight=weight_salience / moved,
        middle=np.sqrt(activation_salience * weight_salience),
        factors=factors,
        difference=float(np.linalg.norm(after - product) / max(float(np.linalg.norm(product)), 1e-30)),
        rows=len(rows),
    )


def _factors(activation_salience: np.ndarray, weight_salience: np.ndarray) -> np.ndarray:
    """The diagonal (channel,) of B_X for both saliences (channel,), as the engine has it (PTQ4DiT eq. 6)."""
    import torch

    from ptq4dit.paper.csb import balance_factors

    return np.asarray(balance_factors(torch.tensor(activation_salience), torch.tensor(weight_salience))[0])


@shared(maxsize=16)
def _operands(
    model: str, name: str, strength: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int | float]:
    """X (row, channel) and W (channel, out) in 32 bits, s(X) and s(W) (channel,), at the layer's middle timestep."""
    require_layer(model, name)
    stats = explored(model, strength).stats
    at = len(stats.timesteps) // 2
    linears = sites(model, strength)[name].linears
    weight = np.concatenate([_floats(linear.weight.detach().flatten(1)) for linear in linears]).T
    return (
        _floats(stats.samples[name][at]),
        weight,
        _floats(stats.activation_salience[name][at]),
        _floats(stats.weight_salience[name]),
        stats.timesteps[at].item(),
    )


def _floats(tensor: Any) -> np.ndarray:
    """A tensor as a numpy array of 32-bit floats."""
    return np.asarray(tensor.float())


def calibrated(view: LayerView) -> np.ndarray:
    """One salience (channel,) out of all timesteps, each counting as much as SSC says (PTQ4DiT eq. 10)."""
    return view.weights @ view.activation


def misfit(view: LayerView, at: int) -> tuple[int, float]:
    """The channel whose factor for timestep `at` alone is furthest from the common one, and how many times off."""
    off = _factors(view.activation[at], view.weight) / _factors(calibrated(view), view.weight)
    off = np.maximum(off, 1 / off)
    return int(off.argmax()), float(off.max())


def spread(weights: np.ndarray) -> float:
    """How many times as much the timestep that counts most counts as the one that counts least; weights (t,)."""
    return float(weights.max() / weights.min())


@shared(maxsize=8)
def liveliest(model: str, strength: int) -> tuple[str, float]:
    """The balanced layer whose timestep weights (PTQ4DiT eq. 11) differ most, and their spread."""
    from ptq4dit.paper.ssc import timestep_weights

    stats = explored(model, strength).stats
    found = {
        name: spread(np.asarray(timestep_weights(stats.activation_salience[name], stats.weight_salience[name])))
        for name in stats.layers
        if site(model, name).balanced
    }
    return max(found.items(), key=lambda one: one[1])
