"""A quantized linear while its rounding is learned, and the way back to integers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.config import FLOAT_BITS
from ptq4dit.quantized.activation import is_static
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.reconstruction.grid import Grid
from ptq4dit.reconstruction.rounding import (
    inverse_rectified_sigmoid,
    rectified_sigmoid,
    round_learned,
    rounding_penalty,
    straight_through,
)


class SoftLinear(nn.Module):
    """Stands in for a `QuantizedLinear` during training: AdaRound's soft rounding, scales and bias fixed.

    Weight, with ``n`` the steps from zero and ``s`` the scale: ``s n``, ``n = floor(v) + h(alpha)``, where ``h(alpha)``
    in [0, 1] is learned and starts at what ``v``, the ``position``, has beyond its floor. A static activation scale is
    learned as ``s e^p``, so that a learning rate is relative to it.
    """

    def __init__(self, linear: QuantizedLinear, position: Float[Tensor, "d_out d_in"] | None) -> None:
        """Take over a layer's state.

        Args:
            linear: the layer; only read.
            position: where each weight lies on its grid, in steps from zero; None for float weights.
        """
        super().__init__()
        self._linear = [linear]  # in a list: its buffers are not this module's
        if position is not None:
            self.grid = Grid.of(linear)
            steps = self.grid.clamp(position)
            self.floor = torch.minimum(torch.floor(steps), self.grid.high - 1)
            self.rounding = nn.Parameter(inverse_rectified_sigmoid(steps - self.floor))
        if is_static(linear.config):
            zero_point = linear.activation_zero_point.to(linear.activation_scale.dtype)
            self.input_low, self.input_high = -zero_point, 2**linear.config.activation_bits - 1 - zero_point
            self.log_activation_scale = nn.Parameter(torch.zeros_like(linear.activation_scale))

    @property
    def linear(self) -> QuantizedLinear:
        """The layer that this one stands for, as it was at the start."""
        return self._linear[0]

    @property
    def trains_weight(self) -> bool:
        """Whether there is a rounding to learn."""
        return hasattr(self, "rounding")

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """``(..., d_in) -> (..., d_out)``."""
        linear = self.linear
        if linear.rotation is not None:
            x = linear.rotation.apply(x)
        result = nn.functional.linear(self.round_input(x), self.weight().to(x.dtype), linear.bias)
        return result + (x @ linear.low_rank_down.T) @ linear.low_rank_up.T if linear.config.rank else result

    def round_input(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The rounded input, with gradients."""
        linear = self.linear
        if linear.config.activation_bits == FLOAT_BITS:
            return x
        if not is_static(linear.config):
            return straight_through(x, linear.round_input(x.detach()))
        scale, low, high = linear.activation_scale * self.log_activation_scale.exp(), self.input_low, self.input_high
        if scale.ndim:
            clock = linear.clock
            assert clock is not None
            scale, low, high = clock.pick(scale, x), clock.pick(low, x), clock.pick(high, x)
        return round_learned(x, scale, low, high)

    def weight(self) -> Float[Tensor, "d_out d_in"]:
        """The weight that the product uses, differentiable."""
        if not self.trains_weight:
            return self.linear.weight
        return self.steps() * self.grid.expand(self.linear.weight_scale)

    def steps(self) -> Float[Tensor, "d_out d_in"]:
        """Steps from zero, possibly between two whole numbers."""
        return self.floor + rectified_sigmoid(self.rounding)

    def penalty(self, beta: float) -> Float[Tensor, ""]:
        """AdaRound's regularization of this layer."""
        return rounding_penalty(rectified_sigmoid(self.rounding), beta)

    @torch.no_grad()
    def harden(self, into: QuantizedLinear) -> None:
        """Write integers and activation scale into a layer of the same shape; the result is exact, not approximate."""
        linear = self.linear
        if self.trains_weight:
            steps = torch.round(self.steps())
            into.set_integers(self.grid.integers(steps), linear.weight_scale, linear.weight_zero_point)
        if is_static(linear.config):
            into.activation_scale.copy_(linear.activation_scale * self.log_activation_scale.exp())
