"""The integer grid of a quantized layer's weight, counted in steps from zero."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ptq4dit.quantized.linear import QuantizedLinear


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Ends of the grid in steps from zero, ``-z`` and ``2^bits - 1 - z``, for every weight ``(d_out, d_in)``."""

    low: Tensor
    high: Tensor

    @staticmethod
    def of(linear: QuantizedLinear) -> "Grid":
        """The grid that a layer has; zero points stay whatever is learned."""
        zero = linear.weight_zero_point.to(linear.weight_scale.dtype)
        zero = zero.repeat_interleave(linear.in_features // zero.shape[1], dim=1)
        return Grid(low=-zero, high=2**linear.config.weight_bits - 1 - zero)

    def expand(self, scale: Float[Tensor, "d_out groups"]) -> Float[Tensor, "d_out d_in"]:
        """The scale of every weight."""
        return scale.repeat_interleave(self.low.shape[1] // scale.shape[1], dim=1)

    def clamp(self, steps: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "d_out d_in"]:
        """Steps moved inside the grid."""
        return torch.maximum(torch.minimum(steps, self.high), self.low)

    def integers(self, steps: Float[Tensor, "d_out d_in"]) -> UInt8[Tensor, "d_out d_in"]:
        """What is stored for whole steps from zero: 0 to ``2^bits - 1``."""
        return (torch.round(steps) - self.low).clamp(min=0).to(torch.uint8)

    def steps(self, linear: QuantizedLinear) -> Float[Tensor, "d_out d_in"]:
        """A layer's integers as steps from zero."""
        return linear.weight_q + self.low
