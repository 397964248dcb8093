"""How sure a mean is: confidence intervals over seeds or pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and the ends of its confidence interval; the ends are nan for a single value."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean with Student's t interval, ``mean +- t_(n-1) s / sqrt(n)``.

    Args:
        values: independent values, such as one for each seed.
        confidence: in (0, 1).

    Raises:
        ValueError: for no value.
    """
    if len(values) == 0:
        raise ValueError("Expected at least one value, got none.")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean=mean, low=math.nan, high=math.nan)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return Interval(mean=mean, low=mean - half, high=mean + half)


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """`mean_interval` of ``a_i - b_i``, for values of two methods on the same noise."""
    return mean_interval([x - y for x, y in zip(a, b, strict=True)], confidence)
