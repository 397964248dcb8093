"""What an integer backend executes of a quantized DiT, read from its modules; what it cannot is refused by name."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor, nn

from ptq4dit.backends.reference import unsigned_zero_point
from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.model.layers import ROLES
from ptq4dit.quantized.attention import QuantizedAttnProcessor
from ptq4dit.quantized.linear import QuantizedLinear

_PATHS = {
    "qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "proj": ("attn1.to_out.0",),
    "fc1": ("ff.net.0.proj",),
    "fc2": ("ff.net.2",),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerLinear:
    """``y = s_x s_w (sum_k q_x (w - c) - z_x sum_k (w - c)) + bias`` with unsigned ``q_x`` and signed 8-bit ``w``.

    ``q_x = round(x / s_x) + z_x``, where channels have a factor ``f`` of their own ``round(x f / s_x) + z_x``.

    ``w - c`` is exactly the ``q_w - z_w`` of the simulated layer. ``c`` is 0 wherever that difference fits 8 signed
    bits: for up to 7 bits and for symmetric 8 bits always; then the product is one of integers and nothing else.

    Attributes:
        name: layer name, such as ``"blocks.0.qkv"``.
        weight: ``w``, ``(d_out, d_in)``.
        correction: ``c``, ``(d_out,)``.
        weight_scale: ``s_w``, ``(d_out,)``.
        bias: zeros where the layer has none.
        activation_scale, activation_zero_point: ``s_x``, and ``z_x`` on the unsigned grid.
        activation_bits: of ``q_x``.
        input_factor: ``f``, ``(d_in,)``; None for ones.
    """

    name: str
    weight: Int8[Tensor, "d_out d_in"]
    correction: Int[Tensor, " d_out"]
    weight_scale: Float[Tensor, " d_out"]
    bias: Float[Tensor, " d_out"]
    activation_scale: float
    activation_zero_point: int
    activation_bits: int
    input_factor: Float[Tensor, " d_in"] | None = None

    @property
    def combined_scale(self) -> Float[Tensor, " d_out"]:
        """``s_x s_w``."""
        return self.weight_scale * self.activation_scale

    @property
    def offset(self) -> Float[Tensor, " d_out"]:
        """``bias - s_x s_w z_x sum_k (w - c)``: all that does not depend on the input."""
        total = self.weight.sum(dim=1, dtype=torch.long) - self.correction * self.weight.shape[1]
        shift = self.combined_scale.double() * total * self.activation_zero_point
        return (self.bias.double() - shift).float()

    @property
    def overflows_16_bits(self) -> bool:
        """Whether two products ``q_x w`` of a row can add up to more than 16 signed bits hold."""
        largest = self.weight.int().abs().topk(min(2, self.weight.shape[1]), dim=1).values.sum(dim=1)
        return int(largest.max()) * (2**self.activation_bits - 1) >= 2**15

    def rows(self, start: int, stop: int, factor: float = 1.0) -> "IntegerLinear":
        """The output channels from ``start`` to ``stop``, times ``factor``."""
        return replace(
            self,
            weight=self.weight[start:stop],
            correction=self.correction[start:stop],
            weight_scale=self.weight_scale[start:stop] * factor,
            bias=self.bias[start:stop] * factor,
        )


def block_linears(twin: Any, block: int) -> dict[str, IntegerLinear]:
    """The four linears of a block by role; q, k and v are one, as they read one input.

    Raises:
        ValueError: if integers cannot run one of them; the message names it and what to choose instead.
    """
    module = twin.transformer_blocks[block]
    processor = module.attn1.processor
    if isinstance(processor, QuantizedAttnProcessor):
        raise _refusal(f"blocks.{block}.attention", "rounded q, k, v or softmax", "attention_bits=16, softmax_bits=16")
    result: dict[str, IntegerLinear] = {}
    for role in ROLES:
        name = f"blocks.{block}.{role}"
        result[role] = integer_linear_of(name, [module.get_submodule(path) for path in _PATHS[role]])
    return result


def integer_linear_of(name: str, linears: list[nn.Module]) -> IntegerLinear:
    """Linears that read the same input as one integer linear, their rows one after the other.

    Raises:
        ValueError: if integers cannot run them.
    """
    parts = [_checked(name, linear) for linear in linears]
    first = parts[0]
    for other in parts[1:]:
        if not torch.equal(first.activation_scale, other.activation_scale) or not torch.equal(
            first.activation_zero_point, other.activation_zero_point
        ):
            raise _refusal(name, "linears that round their common input differently", "one scale for q, k and v")
    signed = [_signed(part) for part in parts]
    config = first.config
    zero_point = unsigned_zero_point(first.activation_zero_point, config.activation_bits, config.activation_symmetric)
    return IntegerLinear(
        name=name,
        weight=torch.cat([weight for weight, _, _ in signed]),
        correction=torch.cat([correction for _, correction, _ in signed]),
        weight_scale=torch.cat([scale for _, _, scale in signed]),
        bias=torch.cat([_bias(part) for part in parts]),
        activation_scale=float(first.activation_scale),
        activation_zero_point=int(zero_point),
        activation_bits=config.activation_bits,
        input_factor=first.input_factor.float() if config.input_factor else None,
    )


def _signed(linear: QuantizedLinear) -> tuple[Tensor, Tensor, Tensor]:
    """``w``, ``c`` and the scale of each row; a row of zeros gets the scale 1, its own may be too small to multiply."""
    zero_point = linear.weight_zero_point[:, 0].to(torch.int16)
    steps = linear.weight_q.to(torch.int16) - zero_point[:, None]
    wide = (steps.amin(dim=1) < -128) | (steps.amax(dim=1) > 127)
    correction = torch.where(wide, zero_point - 128, 0)
    scale = torch.where((steps == 0).all(dim=1), 1.0, linear.weight_scale[:, 0].float())
    return (steps + correction[:, None]).to(torch.int8), correction.long(), scale


def _bias(linear: QuantizedLinear) -> Tensor:
    return linear.weight_scale.new_zeros(linear.out_features) if linear.bias is None else linear.bias.float()


def _checked(name: str, linear: nn.Module) -> QuantizedLinear:
    if not isinstance(linear, QuantizedLinear):
        raise _refusal(name, "a linear left in float", "a model whose block linears are all quantized")
    config = linear.config
    if config.weight_bits == FLOAT_BITS:
        raise _refusal(name, "weights in float", "weight_bits from 2 to 8")
    if config.activation_bits == FLOAT_BITS:
        raise _refusal(name, "activations in float", "activation_bits from 2 to 8")
    if config.activation_granularity != "per_tensor":
        wanted = 'activation_granularity="per_tensor"'
        raise _refusal(name, f'activation_granularity="{config.activation_granularity}"', wanted)
    if linear.weight_scale.shape[1] != 1:
        raise _refusal(name, f"group_size={config.group_size}", "group_size=None")
    if linear.rotation is not None:
        raise _refusal(name, "a rotation at run time", "rotation=False")
    if config.rank:
        raise _refusal(name, "a low-rank branch", "rank=0")
    return linear


def _refusal(name: str, found: str, wanted: str) -> ValueError:
    return ValueError(
        f'The integer backend cannot run {name!r}: it has {found}. Choose {wanted}, or backend="simulated".'
    )
