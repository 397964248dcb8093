"""A rounded layer that lets some of its input channels pass in float, or multiplies single ones."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class SparingLinear(nn.Module):
    """``y = Q(g x_R) Q(W_R)^T + g x_K W_K^T + bias``: the channels K pass in float, the rest R is rounded.

    To the rounded layer the channels K are zeros, in input and weight. Zero is on every grid, so they neither widen a
    range nor add an error there: the rest is rounded as if they did not exist. (A percentile of the weight counts those
    zeros; other ways to choose its range do not.)
    """

    gains: Tensor
    rest: Tensor
    kept: Tensor

    def __init__(
        self,
        linear: nn.Linear | nn.Conv2d,
        rounded: nn.Module | None,
        rest: Bool[Tensor, " channel"],
        gains: Float[Tensor, " channel"],
    ) -> None:
        """Around layers that are made already.

        Args:
            linear: the float layer, or a convolution with one kernel position; left as it is.
            rounded: `without` of it, quantized, bias and all; None where nothing is rounded.
            rest: the channels that are rounded; the others are kept.
            gains: ``g``, what every input channel is multiplied by first; ones change nothing.
        """
        super().__init__()
        self.axis = 1 if isinstance(linear, nn.Conv2d) else -1
        self.rounded: Any = rounded if rounded is not None else linear
        self.register_buffer("gains", gains.to(linear.weight))
        self.register_buffer("rest", rest.to(linear.weight))
        self.register_buffer("kept", (~rest).nonzero().flatten().to(linear.weight.device))
        self.scales = bool((gains != 1).any())
        self.passes = _columns(linear, self.kept) if rounded is not None and len(self.kept) else None

    @property
    def weight(self) -> Tensor:
        """That of the rounded layer; some models ask a layer for its type and device so."""
        weight: Tensor = self.rounded.weight
        return weight

    @property
    def bias(self) -> Tensor | None:
        """That of the layer."""
        bias: Tensor | None = self.rounded.bias
        return bias

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*out"]:
        """As the layer that it stands for: ``(..., d_in) -> (..., d_out)``, or a picture's channels."""
        if self.scales:
            x = x * self._along(self.gains, x)
        if self.passes is None:
            whole: Tensor = self.rounded(x)
            return whole
        rounded: Tensor = self.rounded(x * self._along(self.rest, x))
        return rounded + self.passes(x.index_select(self.axis, self.kept))

    def _along(self, values: Tensor, x: Tensor) -> Tensor:
        return values.to(x.dtype) if self.axis == -1 else values.to(x.dtype)[:, None, None]


@torch.no_grad()
def without(linear: nn.Linear | nn.Conv2d, rest: Bool[Tensor, " channel"]) -> nn.Linear | nn.Conv2d:
    """A copy of a layer whose weight is zero in all input channels but ``rest``; the layer itself where that is all."""
    if bool(rest.all()):
        return linear
    result = _like(linear, linear.weight.shape[1], bias=linear.bias is not None)
    axis = (1, -1) + (1,) * (linear.weight.ndim - 2)
    result.weight.copy_(linear.weight * rest.to(linear.weight).view(axis))
    if linear.bias is not None:
        result.bias.copy_(linear.bias)  # type: ignore[union-attr]
    return result


@torch.no_grad()
def _columns(linear: nn.Linear | nn.Conv2d, kept: Tensor) -> nn.Linear | nn.Conv2d:
    """The layer of the kept channels alone, without bias."""
    result = _like(linear, len(kept), bias=False)
    result.weight.copy_(linear.weight.index_select(1, kept))
    return result


def _like(linear: nn.Linear | nn.Conv2d, columns: int, bias: bool) -> nn.Linear | nn.Conv2d:
    """An unfilled layer of another number of input channels, not to be learned.

    Raises:
        ValueError: for a convolution whose input channels are not the columns of one matrix.
    """
    weight = linear.weight
    where: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    if isinstance(linear, nn.Conv2d):
        if linear.kernel_size != (1, 1) or linear.groups != 1:
            raise ValueError(f"Expected a linear, or a convolution with one kernel position, got {linear}.")
        result: nn.Linear | nn.Conv2d = nn.Conv2d(columns, len(weight), 1, bias=bias, **where)
    else:
        result = nn.Linear(columns, len(weight), bias, **where)
    return result.requires_grad_(False)
