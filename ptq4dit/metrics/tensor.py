"""Distance between a tensor and its approximation."""

import math

from jaxtyping import Float
from torch import Tensor


def relative_error(exact: Float[Tensor, "*shape"], approximate: Float[Tensor, "*shape"]) -> float:
    """``||approximate - exact||^2 / ||exact||^2``, in double precision.

    Returns:
        0 for equal tensors; infinity if ``exact`` is zero and ``approximate`` is not.
    """
    exact, approximate = exact.detach().double(), approximate.detach().double()
    wrong, right = float((approximate - exact).square().sum()), float(exact.square().sum())
    if wrong == 0:
        return 0.0
    return wrong / right if right > 0 else math.inf


def sqnr(exact: Float[Tensor, "*shape"], approximate: Float[Tensor, "*shape"]) -> float:
    """Signal to quantization noise ratio in dB: ``-10 log10(relative_error)``; infinity for equal tensors."""
    error = relative_error(exact, approximate)
    return math.inf if error == 0 else -10 * math.log10(error)
