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
    """Stands in for a `QuantizedLinear` during training; same function with hard rounding.

    Weight, with ``n`` the steps from zero and ``s`` the scale: AdaRound ``n = clamp(floor(v) + h(alpha))`` with fixed
    ``s`` and bias, or straight through ``n = clamp(round(v))`` with learned ``v``, ``s`` and bias. ``v`` starts at
    ``position``. Scales are learned as ``s e^p``, so that a learning rate is relative to them.
    """

    def __init__(
        self, linear: QuantizedLinear, position: Float[Tensor, "d_out d_in"] | None, *, adaround: bool
    ) -> None:
        """Take over a layer's state.

        Args:
            linear: the layer; only read.
            position: where each weight lies on its grid, in steps from zero; None starts at the layer's integers.
            adaround: learn the direction of rounding only, instead of ``v``, ``s`` and bias.
        """
        super().__init__()
        self._linear = [linear]  # in a list: its buffers are not this module's
        self.adaround, self.trains_weight = adaround, linear.config.weight_bits != FLOAT_BITS
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.clone(), requires_grad=not adaround)
        if self.trains_weight:
            self.grid = Grid.of(linear)
            steps = self.grid.clamp(self.grid.steps(linear) if position is None else position)
            self.log_weight_scale = nn.Parameter(torch.zeros_like(linear.weight_scale), requires_grad=not adaround)
            self.floor = torch.minimum(torch.floor(steps), self.grid.high - 1)
            self.rounding = nn.Parameter(inverse_rectified_sigmoid(steps - self.floor) if adaround else steps)
        if is_static(linear.config):
            zero_point = linear.activation_zero_point.to(linear.activation_scale.dtype)
            self.input_low, self.input_high = -zero_point, 2**linear.config.activation_bits - 1 - zero_point
            self.log_activation_scale = nn.Parameter(torch.zeros_like(linear.activation_scale))

    @property
    def linear(self) -> QuantizedLinear:
        """The layer that this one stands for, as it was at the start."""
        return self._linear[0]

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """``(..., d_in) -> (..., d_out)``."""
        linear = self.linear
        if linear.rotation is not None:
            x = linear.rotation.apply(x)
        result = nn.functional.linear(self.round_input(x), self.weight().to(x.dtype), self.bias)
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
        return self.steps() * self.grid.expand(self.linear.weight_scale * self.log_weight_scale.exp())

    def steps(self) -> Float[Tensor, "d_out d_in"]:
        """Steps from zero: whole numbers straight through, possibly between two of them for AdaRound."""
        if self.adaround:
            return self.floor + rectified_sigmoid(self.rounding)
        return self.grid.clamp(straight_through(self.rounding, torch.round(self.rounding)))

    def penalty(self, beta: float) -> Float[Tensor, ""]:
        """AdaRound's regularization of this layer."""
        return rounding_penalty(rectified_sigmoid(self.rounding), beta)

    @torch.no_grad()
    def harden(self, into: QuantizedLinear) -> None:
        """Write integers, scales and bias into a layer of the same shape; the result is exact, not approximate."""
        linear = self.linear
        if self.trains_weight:
            scale = linear.weight_scale * self.log_weight_scale.exp()
            into.set_integers(self.grid.integers(self.grid.clamp(self.steps())), scale, linear.weight_zero_point)
        if self.bias is not None and into.bias is not None:
            into.bias.copy_(self.bias)
        if is_static(linear.config):
            into.activation_scale.copy_(linear.activation_scale * self.log_activation_scale.exp())
