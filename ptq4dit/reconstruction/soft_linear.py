"""A quantized linear while its rounding is learned, and the way back to integers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.quantized.activation import activation_spec, is_static
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.reconstruction.grid import Grid
from ptq4dit.reconstruction.layer_input import as_rows, from_rows
from ptq4dit.reconstruction.rounding import (
    inverse_rectified_sigmoid,
    rectified_sigmoid,
    round_learned,
    rounding_penalty,
    straight_through,
)


class SoftRange(nn.Module):
    """A static range whose scale ``s e^p`` is learned, so that a learning rate is relative to it.

    Layers of the same input share one. It rounds that once for all of them, in whichever of them a forward comes to
    first; `start` says that another forward begins.
    """

    def __init__(self, linear: QuantizedLinear) -> None:
        """Take over a layer's range."""
        super().__init__()
        self._first, self._clock = linear.activation_scale, linear.clock
        low: Tensor = activation_spec(linear.config).qmin - linear.activation_zero_point.to(self._first.dtype)
        self.low, self.high = low, low + (2**linear.config.activation_bits - 1)
        self._ends = () if low.ndim else (float(self.low), float(self.high))
        self.log_scale = nn.Parameter(torch.zeros_like(self._first))
        self._last: tuple[Tensor, Tensor] | None = None

    def start(self) -> None:
        """Forget the input of the last forward; the next one that comes is rounded."""
        self._last = None

    def scale(self) -> Float[Tensor, "*groups"]:
        """The present scale."""
        return self._first * self.log_scale.exp()

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The rounded input of this forward."""
        if self._last is None or self._last[0] is not x:
            self._last = x, self._round(x)
        return self._last[1]

    def _round(self, x: Tensor) -> Tensor:
        scale = self.scale()
        if not scale.ndim:
            return round_learned(x, scale, *self._ends)
        assert self._clock is not None
        pick = self._clock.pick
        return round_learned(x, pick(scale, x), pick(self.low, x), pick(self.high, x))


class SoftLinear(nn.Module):
    """Stands in for a `QuantizedLinear` during training: AdaRound's soft rounding, scales and bias fixed.

    Weight, with ``n`` the steps from zero and ``s`` the scale: ``s n``, ``n = floor(v) + h(alpha)``, where ``h(alpha)``
    in [0, 1] is learned and starts at what ``v``, the ``position``, has beyond its floor. A static activation range is
    a `SoftRange`.
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
        self.input_range = SoftRange(linear) if is_static(linear.config) else None

    @property
    def linear(self) -> QuantizedLinear:
        """The layer that this one stands for, as it was at the start."""
        return self._linear[0]

    def range_parameters(self) -> list[nn.Parameter]:
        """What is learned of the input's range."""
        return [] if self.input_range is None else list(self.input_range.parameters())

    @property
    def trains_weight(self) -> bool:
        """Whether there is a rounding to learn."""
        return hasattr(self, "rounding")

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """``(..., d_in) -> (..., d_out)``, or what the convolution does that the layer stands for."""
        linear, given = self.linear, x
        x = linear.prepare_input(as_rows(linear, given))
        result = nn.functional.linear(self.round_input(x), self.weight().to(x.dtype), linear.bias)
        if linear.config.rank:
            result = result + (x @ linear.low_rank_down.T) @ linear.low_rank_up.T
        return from_rows(linear, result, given)

    def round_input(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The rounded input, with gradients."""
        linear = self.linear
        if linear.config.activation_bits == FLOAT_BITS:
            return x
        if self.input_range is None:
            return straight_through(x, linear.round_input(x.detach()))
        return self.input_range(x)

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
        if self.input_range is not None:
            into.activation_scale.copy_(self.input_range.scale())
