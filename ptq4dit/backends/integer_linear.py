"""The integer linear that every backend runs: its integers, scales and zero points, and what no integers express."""

from collections.abc import Hashable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Int8, UInt8
from torch import Tensor, nn

from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.numerics.rotation import Rotation
from ptq4dit.quantized.activation import is_static
from ptq4dit.quantized.linear import QuantizedLinear

MAX_COLUMNS = (2**31 - 1) // 255**2
"""Input channels whose products of two 8-bit differences surely fit a 32-bit accumulator."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerLinear:
    """``y = s_x s_w (sum_k q_x (w - c) - z_x sum_k (w - c)) + bias`` with unsigned ``q_x`` and signed 8-bit ``w``.

    ``q_x = round(x / s_x) + z_x``, where channels have a factor ``f`` of their own ``round(x f / s_x) + z_x``, and
    where there is a rotation of the rotated input. Both count from 0, whatever the zero points of the layer that it
    was read from count from.

    ``w - c`` is exactly the ``q_w - z_w`` of the simulated layer. ``c`` is 0 wherever that difference fits 8 signed
    bits: for up to 7 bits and for symmetric 8 bits always; then the product is one of integers and nothing else.

    Attributes:
        name: of the layer, for refusals and for finding it in a compiled graph.
        weight: ``w``, ``(d_out, d_in)``.
        correction: ``c``, ``(d_out,)``.
        weight_scale: ``s_w``, ``(d_out,)``.
        bias: zeros where the layer has none.
        activation_scale, activation_zero_point: ``s_x``, and ``z_x`` on the unsigned grid: ``()``, or
            ``(timestep groups,)``; None where they are found for every token.
        activation_bits: of ``q_x``.
        input_factor: ``f``, ``(d_in,)``; None for ones.
        rotation: of the input; None for none.
        low_rank: ``up (d_out, rank)`` and ``down (rank, d_in)`` of a float branch on the input; None for none.
    """

    name: str
    weight: Int8[Tensor, "d_out d_in"]
    correction: Int[Tensor, " d_out"]
    weight_scale: Float[Tensor, " d_out"]
    bias: Float[Tensor, " d_out"]
    activation_scale: Float[Tensor, "*groups"] | None
    activation_zero_point: Int[Tensor, "*groups"] | None
    activation_bits: int
    input_factor: Float[Tensor, " d_in"] | None = None
    rotation: Rotation | None = None
    low_rank: tuple[Float[Tensor, "d_out rank"], Float[Tensor, "rank d_in"]] | None = None

    @property
    def grid(self) -> tuple[float, int]:
        """``s_x`` and ``z_x`` of a layer with one static grid; see `require_one_grid`."""
        assert self.activation_scale is not None and self.activation_zero_point is not None
        return float(self.activation_scale), int(self.activation_zero_point)

    @property
    def rounding(self) -> Hashable:
        """Equal for layers that round the same input to the same integers."""
        factor = b"" if self.input_factor is None else self.input_factor.detach().float().cpu().numpy().tobytes()
        return self.grid, self.activation_bits, factor

    @property
    def combined_scale(self) -> Float[Tensor, " d_out"]:
        """``s_x s_w``."""
        return (self.weight_scale.double() * self.grid[0]).float()

    @property
    def row_sums(self) -> Int[Tensor, " d_out"]:
        """``sum_k (w - c)``."""
        return self.weight.sum(dim=1, dtype=torch.long) - self.correction * self.weight.shape[1]

    @property
    def offset(self) -> Float[Tensor, " d_out"]:
        """``bias - s_x s_w z_x sum_k (w - c)``: all that does not depend on the input."""
        shift = self.combined_scale.double() * self.row_sums * self.grid[1]
        return (self.bias.double() - shift).float()

    @property
    def overflows_16_bits(self) -> bool:
        """Whether two products ``q_x w`` of a row can add up to more than 16 signed bits hold."""
        most, either = 2**self.activation_bits - 1, max(-int(self.weight.min()), int(self.weight.max()))
        if 2 * either * most < 2**15:
            return False
        largest = self.weight.int().abs().topk(min(2, self.weight.shape[1]), dim=1).values.sum(dim=1)
        return int(largest.max()) * most >= 2**15

    def rows(self, start: int, stop: int, factor: float = 1.0) -> "IntegerLinear":
        """The output channels from ``start`` to ``stop``, times ``factor``."""
        return replace(
            self,
            weight=self.weight[start:stop],
            correction=self.correction[start:stop],
            weight_scale=self.weight_scale[start:stop] * factor,
            bias=self.bias[start:stop] * factor,
        )


def integer_linear_of(name: str, linears: list[nn.Module]) -> IntegerLinear:
    """Linears that read the same input as one integer linear, their rows one after the other.

    Raises:
        ValueError: if no integer product expresses them; the message names the layer and what to choose instead.
    """
    parts = common_linears(name, linears)
    first = parts[0]
    if first.config.activation_group_size is not None:
        raise refusal(name, f"activation_group_size={first.config.activation_group_size}", "activation_group_size=None")
    for part in parts:
        if part.weight_scale.shape[1] != 1:
            raise refusal(name, f"group_size={part.config.group_size}", "group_size=None")
    signed = [signed_integers(part.integers(), part.weight_scale[:, 0], part.weight_zero_point[:, 0]) for part in parts]
    static, bits = is_static(first.config), first.config.activation_bits
    zero_point = first.activation_zero_point if static else None
    if zero_point is not None and first.config.activation_symmetric:
        zero_point = zero_point + 2 ** (bits - 1)
    return IntegerLinear(
        name=name,
        weight=torch.cat([weight for weight, _, _ in signed]),
        correction=torch.cat([correction for _, correction, _ in signed]),
        weight_scale=torch.cat([scale for _, _, scale in signed]),
        bias=common_bias(parts),
        activation_scale=first.activation_scale if static else None,
        activation_zero_point=zero_point,
        activation_bits=bits,
        input_factor=getattr(first, "input_factor", None),
        rotation=first.rotation,
        low_rank=_branch(parts) if first.config.rank else None,
    )


def common_linears(name: str, linears: list[nn.Module]) -> list[QuantizedLinear]:
    """Linears that read the same input, seen to round it alike and to have integers.

    Raises:
        ValueError: naming the layer and what to choose instead.
    """
    parts = [_checked(name, linear) for linear in linears]
    for other in parts[1:]:
        for buffer in ("activation_scale", "activation_zero_point", "input_factor"):
            if not _same(getattr(parts[0], buffer, None), getattr(other, buffer, None)):
                raise refusal(name, "linears that round their common input differently", "one scale for q, k and v")
    return parts


def common_bias(linears: list[QuantizedLinear]) -> Float[Tensor, " d_out"]:
    """Their biases one after the other, zeros where one has none."""
    zeros = [linear.weight_scale.new_zeros(linear.out_features) for linear in linears]
    pairs = zip(linears, zeros, strict=True)
    return torch.cat([none if linear.bias is None else linear.bias.to(none.dtype) for linear, none in pairs])


def require_one_grid(layer: IntegerLinear) -> IntegerLinear:
    """The layer, if a graph can hold it: one static grid for its input, and nothing beside the product.

    Raises:
        ValueError: naming the layer and what to choose instead.
    """
    if layer.activation_scale is None:
        raise refusal(layer.name, 'activation_granularity="per_token"', 'activation_granularity="per_tensor"')
    if layer.activation_scale.ndim:
        found = 'activation_granularity="per_timestep_group"'
        raise refusal(layer.name, found, 'activation_granularity="per_tensor"')
    if layer.rotation is not None:
        raise refusal(layer.name, "a rotation at run time", "rotation=False")
    if layer.low_rank is not None:
        raise refusal(layer.name, "a low-rank branch", "rank=0")
    return layer


def refusal(name: str, found: str, wanted: str) -> ValueError:
    """What to say of a layer that cannot run on integers."""
    return ValueError(
        f'The integer backend cannot run {name!r}: it has {found}. Choose {wanted}, or backend="simulated".'
    )


def _branch(parts: list[QuantizedLinear]) -> tuple[Tensor, Tensor]:
    """The float branches of several linears as one, each for its own rows."""
    return torch.block_diag(*(part.low_rank_up for part in parts)), torch.cat([part.low_rank_down for part in parts])


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other if one is None or other is None else torch.equal(one, other)


def signed_integers(
    weight_q: UInt8[Tensor, "d_out d_in"], scale: Float[Tensor, " d_out"], zero_point: Int[Tensor, " d_out"]
) -> tuple[Int8[Tensor, "d_out d_in"], Int[Tensor, " d_out"], Float[Tensor, " d_out"]]:
    """``w``, ``c`` and the scale of each row; a row of zeros gets the scale 1, its own may be too small to multiply."""
    zero_point = zero_point.long()
    low, high = (end.long() - zero_point for end in (weight_q.amin(dim=1), weight_q.amax(dim=1)))
    correction = torch.where((low < -128) | (high > 127), zero_point - 128, 0)
    scale = torch.where((low == 0) & (high == 0), 1.0, scale)
    shift = ((zero_point - correction) % 256).to(torch.uint8)
    return (weight_q - shift[:, None]).view(torch.int8), correction, scale  # bytes go round, and the result fits one


def _checked(name: str, linear: nn.Module) -> QuantizedLinear:
    if not isinstance(linear, QuantizedLinear):
        raise refusal(name, "a linear left in float", "a model whose block linears are all quantized")
    config = linear.config
    if config.weight_bits == FLOAT_BITS:
        raise refusal(name, "weights in float", "weight_bits from 2 to 8")
    if config.activation_bits == FLOAT_BITS:
        raise refusal(name, "activations in float", "activation_bits from 2 to 8")
    if linear.in_features > MAX_COLUMNS:
        raise refusal(name, f"{linear.in_features} input channels", f"layers of up to {MAX_COLUMNS}, all 32 bits sum")
    return linear
