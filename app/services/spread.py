"""How the salience of a layer's channels spreads at each timestep: quartiles, whiskers, and what lies beyond them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WHISKER = 1.5  # interquartile ranges that a whisker reaches at most, as Tukey drew them


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """Of values (t, channel), each (t,): quartiles; the last values within WHISKER interquartile ranges of the box.

    beyond: for each timestep the channels above the upper whisker, the most salient first.
    """

    low: np.ndarray
    first: np.ndarray
    median: np.ndarray
    third: np.ndarray
    high: np.ndarray
    beyond: tuple[np.ndarray, ...]


def spread(values: np.ndarray) -> Spread:
    """The spread of (t, channel) over its channels."""
    first, median, third = np.percentile(values, (25, 50, 75), axis=1)
    reach = WHISKER * (third - first)
    inside = (values >= (first - reach)[:, None]) & (values <= (third + reach)[:, None])
    high = np.maximum(np.where(inside, values, -np.inf).max(axis=1), third)
    return Spread(
        low=np.minimum(np.where(inside, values, np.inf).min(axis=1), first),
        first=first,
        median=median,
        third=third,
        high=high,
        beyond=tuple(_largest_first(row, top) for row, top in zip(values, high, strict=True)),
    )


def _largest_first(row: np.ndarray, above: float) -> np.ndarray:
    found = np.flatnonzero(row > above)
    return found[np.argsort(-row[found], kind="stable")]
