"""Linears as products of signed bytes by ``torch._int_mm``: exact sums, a float epilogue.

Shapes that the kernel refuses are padded, never sent elsewhere.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor, nn

from ptq4dit.backends.integer_linear import IntegerLinear
from ptq4dit.backends.token_linear import TokenLinear
from ptq4dit.config.quantization import LayerConfig
from ptq4dit.numerics.affine import AffineSpec, affine_from_range, quantize, value_range
from ptq4dit.quantized.activation import activation_spec
from ptq4dit.quantized.timestep_groups import TimestepClock

MIN_ROWS = 17
"""``torch._int_mm`` on CUDA wants more than 16 rows."""
MULTIPLE = 8
"""... and columns, of both operands, in multiples of 8."""


class Int8Linear(nn.Module):
    """An `IntegerLinear` by products of signed bytes; sums in 32-bit integers, exact.

    The input's integers are shifted into a byte's range, ``q' = q_x - 128`` and ``z' = z_x - 128``:
    ``sum_k (q_x - z_x) (w - c) = int_mm(q', w) - z' sum_k (w - c) - c sum_k q'``. The last sum is made by the same
    product: a row of ones is appended to the weight when some c is not 0.
    """

    weight: Tensor
    row_sums: Tensor
    correction: Tensor | None
    weight_scale: Tensor
    bias: Tensor
    activation_scale: Tensor | None
    activation_zero_point: Tensor | None
    input_factor: Tensor | None
    low_rank_up: Tensor | None
    low_rank_down: Tensor | None

    def __init__(self, described: IntegerLinear, config: LayerConfig, clock: TimestepClock | None = None) -> None:
        """From what a layer is on integers, its settings, and the transformer's clock; all are left as they are."""
        super().__init__()
        self.config, (self.out_features, self.in_features) = config, described.weight.shape
        self.bits, self.rotation = described.activation_bits, described.rotation
        self.clock = [clock]  # in a list: the clock belongs to the transformer
        weight = described.weight
        correction = described.correction if bool(described.correction.any()) else None
        if correction is not None:
            weight = torch.cat([weight, torch.ones_like(weight[:1])])
        up, down = described.low_rank or (None, None)
        buffers = {
            "weight": padded(weight, MULTIPLE, MULTIPLE),
            "row_sums": described.row_sums.int(),
            "correction": None if correction is None else correction.int(),
            "weight_scale": described.weight_scale,
            "bias": described.bias,
            "activation_scale": described.activation_scale,
            "activation_zero_point": described.activation_zero_point,
            "input_factor": described.input_factor,
            "low_rank_up": up,
            "low_rank_down": down,
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """``(..., d_in) -> (..., d_out)``, in the type of ``x``."""
        if self.input_factor is not None:
            x = x * self.input_factor.to(x.dtype)
        if self.rotation is not None:
            x = self.rotation.apply(x)
        result = (self.product(x, *self._grid(x)) + self.bias).to(x.dtype)
        if self.low_rank_up is None or self.low_rank_down is None:
            return result
        return result + (x @ self.low_rank_down.T) @ self.low_rank_up.T

    def product(
        self, x: Float[Tensor, "*batch d_in"], scale: Float[Tensor, "..."], zero_point: Int[Tensor, "..."]
    ) -> Float[Tensor, "*batch d_out"]:
        """``s_x s_w sum_k (q_x - z_x) (w - c)`` of a prepared input, in the type of the scales."""
        q = quantize(x, scale, zero_point, AffineSpec(bits=self.bits))
        total = int8_product((q ^ 128).view(torch.int8).flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])
        sums = total[..., : self.out_features] - (zero_point - 128) * self.row_sums
        if self.correction is not None:
            sums = sums - self.correction * total[..., self.out_features : self.out_features + 1]
        return sums.to(self.weight_scale.dtype) * (scale * self.weight_scale)

    def _grid(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and unsigned zero point of the input, broadcastable against it: ``()``, or of each row or token."""
        if self.activation_scale is None or self.activation_zero_point is None:
            return _found_grid(x, activation_spec(self.config))
        if self.activation_scale.ndim == 0:
            return self.activation_scale, self.activation_zero_point
        clock = self.clock[0]
        assert clock is not None
        return clock.pick(self.activation_scale, x), clock.pick(self.activation_zero_point, x)

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return f"{self.in_features}, {self.out_features}, {self.config.label}, integer"


class Int8GroupedLinear(nn.Module):
    """A `TokenLinear` of several scales in a row: one product for each run of columns that share both scales."""

    bias: Tensor
    input_factor: Tensor | None

    def __init__(self, described: TokenLinear, config: LayerConfig) -> None:
        """From what a layer is on integers, and its settings; both are left as they are."""
        super().__init__()
        self.config, self.spec, self.input_group = config, described.spec, described.input_group
        self.parts = nn.ModuleList(Int8Linear(part, config) for part in described.parts())
        self.register_buffer("bias", described.bias)
        self.register_buffer("input_factor", described.input_factor)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """``(..., d_in) -> (..., d_out)``, in the type of ``x``."""
        if self.input_factor is not None:
            x = x * self.input_factor.to(x.dtype)
        grids = [_found_grid(group, self.spec) for group in x.split(self.input_group, dim=-1)]
        start, total = 0, self.bias
        for part in self.parts:
            assert isinstance(part, Int8Linear)
            columns = x[..., start : start + part.in_features]
            total = total + part.product(columns, *grids[start // self.input_group])
            start += part.in_features
        return total.to(x.dtype)

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return f"{self.config.label}, integer, groups of {self.input_group}"


class Int8PatchEmbed(nn.Module):
    """`QuantizedPatchEmbed` on integers."""

    def __init__(self, linear: nn.Module, patch: int) -> None:
        """Around the linear of the flattened patches."""
        super().__init__()
        self.linear, self.patch = linear, patch

    def forward(self, x: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n d_out rows columns"]:
        """``(n, c, h, w) -> (n, d_out, h / patch, w / patch)``."""
        patches = nn.functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        return self.linear(patches).transpose(1, 2).unflatten(2, (x.shape[2] // self.patch, -1))


def int8_product(
    a: Int8[Tensor, "row k"], weight: Int8[Tensor, "padded_out padded_k"]
) -> Int[Tensor, "row padded_out"]:
    """``a @ weight.T`` in 32-bit integers; ``a`` is padded with zeros to a shape that the kernel takes.

    Args:
        a: any number of rows, at most as many columns as the weight.
        weight: rows and columns in multiples of 8.
    """
    rows = len(a)
    if rows < MIN_ROWS or a.shape[1] != weight.shape[1]:
        missing = max(0, -(-MIN_ROWS // MULTIPLE) * MULTIPLE - rows) if rows < MIN_ROWS else 0
        a = nn.functional.pad(a, (0, weight.shape[1] - a.shape[1], 0, missing))
    return torch._int_mm(a.contiguous(), weight.t())[:rows]


def padded(weight: Int8[Tensor, "row column"], rows: int, columns: int) -> Int8[Tensor, "more_rows more_columns"]:
    """Zeros appended until both sizes are multiples."""
    return nn.functional.pad(weight, (0, -weight.shape[1] % columns, 0, -weight.shape[0] % rows))


def _found_grid(x: Tensor, spec: AffineSpec) -> tuple[Tensor, Tensor]:
    """Scale and unsigned zero point of every token, from its own values."""
    token = replace(spec, granularity="per_token")
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale, zero_point = affine_from_range(*value_range(wide, token), token)
    return scale, zero_point - spec.qmin
