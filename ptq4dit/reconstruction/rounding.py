"""Rounding that a gradient passes through: of activations, with the gradient of their scale, and of weights."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

STRETCH = (-0.1, 1.1)
"""Ends of the rectified sigmoid, AdaRound eq. 23 (Nagel et al. 2020, arXiv 2004.10568)."""


class _RoundStatic(torch.autograd.Function):
    """``s clamp(round(x / s), low, high)``; see `round_learned`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
        steps = x * (1 / scale)
        rounded = torch.round(steps).clamp_(low, high)  # type: ignore[arg-type]
        ctx.save_for_backward(steps, rounded, scale)
        ctx.ends = low, high
        return rounded * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        steps, rounded, scale = ctx.saved_tensors
        low, high = ctx.ends
        gradient = gradients[0]
        if isinstance(low, Tensor):
            passed = gradient * ((steps > low - 0.5) & (steps < high + 0.5))
        else:  # the same in one pass over memory
            passed = torch.ops.aten.hardtanh_backward(gradient, steps, low - 0.5, high + 0.5)
        if not ctx.needs_input_grad[1]:
            return passed, None, None, None
        if scale.numel() == 1:
            slope = torch.dot(gradient.flatten(), rounded.flatten()) - torch.dot(passed.flatten(), steps.flatten())
            return passed, slope.reshape(scale.shape), None, None
        return passed, (gradient * rounded - passed * steps).sum_to_size(scale.shape), None, None


def round_learned(
    x: Float[Tensor, "*shape"],
    scale: Float[Tensor, "..."],
    low: Float[Tensor, "..."] | float,
    high: Float[Tensor, "..."] | float,
) -> Float[Tensor, "*shape"]:
    """``y = s clamp(round(x / s), low, high)`` with gradients for ``x`` and ``s`` (LSQ, Esser et al. 2020).

    ``dy/dx`` is 1 inside the range and 0 outside; ``dy/ds`` is ``round(x / s) - x / s`` inside and ``low`` or ``high``
    outside.

    Args:
        x: values to round.
        scale: step size, broadcast against ``x``.
        low, high: ends of the grid in steps from zero, ``-z`` and ``2^b - 1 - z``; plain numbers are quicker.
    """
    result: Tensor = _RoundStatic.apply(x, scale, low, high)
    return result


def straight_through(x: Float[Tensor, "*shape"], rounded: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``rounded``, with the gradient of ``x``."""
    return x + (rounded - x).detach()


def rectified_sigmoid(alpha: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``h(alpha) = clamp(1.2 sigmoid(alpha) - 0.1, 0, 1)``, AdaRound eq. 23."""
    return (torch.sigmoid(alpha) * (STRETCH[1] - STRETCH[0]) + STRETCH[0]).clamp(0, 1)


def inverse_rectified_sigmoid(h: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``alpha`` with ``rectified_sigmoid(alpha) = h``, for ``h`` in [0, 1]."""
    return torch.logit((h - STRETCH[0]) / (STRETCH[1] - STRETCH[0]))


def rounding_penalty(h: Float[Tensor, "*shape"], beta: float) -> Float[Tensor, ""]:
    """``sum(1 - |2h - 1|^beta)``, AdaRound eq. 24: 0 once every ``h`` is 0 or 1."""
    return h.numel() - (2 * h - 1).abs().pow(beta).sum()
