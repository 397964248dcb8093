"""A linear whose input gets its scale at run time: one for every token, or for every group of a token's channels."""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from ptq4dit.backends.integer_linear import IntegerLinear, common_bias, common_linears, refusal, signed_integers
from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.numerics.affine import AffineSpec
from ptq4dit.quantized.activation import activation_spec, is_static
from ptq4dit.quantized.linear import QuantizedLinear

_NATIVE_MULTIPLE = 16
"""Channels that the runtime's kernel rounds at a time: its groups are multiples of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenLinear:
    """``y = sum_g s_x,g s_w,g sum_(k in g) (q_x - z_x,g) (q_w - z_w,g) + bias`` with ``s_x``, ``z_x`` of every token.

    Symmetric inputs have ``z_x = 0`` and ``s_x = max|x| / (2^(bits-1) - 1)``.

    Attributes:
        name: of the layer, for refusals and for finding it in a compiled graph.
        weight_q: ``(d_out, d_in)``, from 0.
        weight_scale, weight_zero_point: ``(d_out, groups)``, groups of equal runs of columns.
        weight_bits, weight_symmetric: of ``weight_q``; symmetric ones have the zero point ``2^(bits-1)``.
        bias: ``(d_out,)``, zeros where the layer has none.
        spec: of the input's integers.
        input_group: channels of a token that share a scale; ``d_in`` for all of them.
        input_factor: of every channel, before it is rounded, ``(d_in,)``; None for ones.
        native: rounded by the runtime itself, weights in the smallest type that holds them; else written out.
    """

    name: str
    weight_q: UInt8[Tensor, "d_out d_in"]
    weight_scale: Float[Tensor, "d_out groups"]
    weight_zero_point: Int[Tensor, "d_out groups"]
    weight_bits: int
    weight_symmetric: bool
    bias: Float[Tensor, " d_out"]
    spec: AffineSpec
    input_group: int
    input_factor: Float[Tensor, " d_in"] | None = None
    native: bool = False

    @property
    def weight_group(self) -> int:
        """Columns of a weight row that share a scale."""
        return self.weight_q.shape[1] // self.weight_scale.shape[1]

    @property
    def part_size(self) -> int:
        """Columns that share both scales, the weight's and the input's."""
        return math.gcd(self.weight_group, self.input_group)

    @property
    def part_count(self) -> int:
        """Products of integers that make one layer, where they are written out."""
        return self.weight_q.shape[1] // self.part_size

    @property
    def native_type(self) -> str:
        """The smallest of the runtime's types that holds the weight: ``"i4"``, ``"u4"``, ``"i8"`` or ``"u8"``."""
        return ("i" if self.weight_symmetric else "u") + ("4" if self.weight_bits <= 4 else "8")

    @property
    def native_obstacle(self) -> str | None:
        """Why the runtime cannot round this layer's input itself, in words; None if it may."""
        if not self.spec.symmetric:
            return "activation_symmetric=False"
        if self.spec.bits != 8:
            return f"activation_bits={self.spec.bits}"
        if self.input_group % _NATIVE_MULTIPLE:
            return f"groups of {self.input_group} channels, no multiple of {_NATIVE_MULTIPLE}"
        if self.weight_group % self.input_group:
            return f"group_size={self.weight_group}, which groups of {self.input_group} channels do not divide"
        return None

    @property
    def rounding(self) -> Hashable:
        """Equal for layers that round the same input to the same integers."""
        factor = b"" if self.input_factor is None else self.input_factor.detach().float().cpu().numpy().tobytes()
        return self.spec, self.input_group, self.native, factor

    def rows(self, start: int, stop: int, factor: float = 1.0) -> "TokenLinear":
        """The output channels from ``start`` to ``stop``, times ``factor``."""
        return replace(
            self,
            weight_q=self.weight_q[start:stop],
            weight_scale=self.weight_scale[start:stop] * factor,
            weight_zero_point=self.weight_zero_point[start:stop],
            bias=self.bias[start:stop] * factor,
        )

    def parts(self) -> Iterator[IntegerLinear]:
        """One linear for each run of columns with one scale: of integers from 0 up, their own scale 1, without bias.

        Their zero point is ``2^(bits-1)`` for symmetric inputs; for others 0, as theirs is found at run time.
        """
        zero_point = self.spec.qmax + 1 if self.spec.symmetric else 0
        for start in range(0, self.weight_q.shape[1], self.part_size):
            group = start // self.weight_group
            columns = self.weight_q[:, start : start + self.part_size]
            weight, correction, scale = signed_integers(
                columns, self.weight_scale[:, group], self.weight_zero_point[:, group]
            )
            yield IntegerLinear(
                name=self.name,
                weight=weight,
                correction=correction,
                weight_scale=scale,
                bias=torch.zeros_like(self.bias),
                activation_scale=torch.ones((), device=scale.device),
                activation_zero_point=torch.tensor(zero_point, device=scale.device),
                activation_bits=self.spec.bits,
            )


def finds_scales(module: nn.Module) -> bool:
    """Whether a layer rounds its input with scales that are found at run time."""
    if not isinstance(module, QuantizedLinear):
        return False
    return module.config.activation_bits != FLOAT_BITS and not is_static(module.config)


def token_linear_of(name: str, linears: list[nn.Module], *, native: bool = False) -> TokenLinear:
    """Linears that read the same input, rounded at run time, as one; their rows one after the other.

    Raises:
        ValueError: if no integer products express them; the message names the layer and what to choose instead.
    """
    parts = common_linears(name, linears)
    first = parts[0]
    if first.rotation is not None:
        raise refusal(name, "a rotation at run time", "rotation=False")
    if first.config.rank:
        raise refusal(name, "a low-rank branch", "rank=0")
    return TokenLinear(
        name=name,
        weight_q=_joined([part.integers() for part in parts]),
        weight_scale=_joined([part.weight_scale for part in parts]),
        weight_zero_point=_joined([part.weight_zero_point for part in parts]),
        weight_bits=max(part.config.weight_bits for part in parts),
        weight_symmetric=first.config.weight_symmetric,
        bias=common_bias(parts),
        spec=activation_spec(first.config),
        input_group=first.config.activation_group_size or first.in_features,
        input_factor=getattr(first, "input_factor", None),
        native=native,
    )


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
