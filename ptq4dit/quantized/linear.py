"""A linear layer with integer weights and a rounded input, simulated in floats."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.affine import (
    AffineSpec,
    affine_from_range,
    dequantize,
    fake_quantize,
    least_squares_range,
    quantize,
    value_range,
)
from ptq4dit.config import FLOAT_BITS, QuantConfig


class QuantizedLinear(nn.Module):
    """``y = dequantize(quantize(x)) dequantize(W_q)^T + bias``, PTQ4DiT eq. 2 on both operands.

    Buffers, all saved: ``weight_q`` ``(d_out, d_in)`` uint8, ``weight_scale`` and ``weight_zero_point`` ``(d_out, 1)``
    (or ``weight`` itself when left in float), ``activation_scale`` and ``activation_zero_point`` ``()``, ``bias``.
    Derived, not saved: ``weight``, the dequantized weight that the simulated product uses.
    """

    weight: Tensor
    bias: Tensor | None
    weight_q: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    activation_scale: Tensor
    activation_zero_point: Tensor

    def __init__(self, like: nn.Linear, config: QuantConfig) -> None:
        """An unfilled layer with the shape, type and device of ``like``; fill it by `from_float` or a state dict."""
        super().__init__()
        self.in_features, self.out_features = like.in_features, like.out_features
        self.weight_bits, self.activation_bits = config.weight_bits, config.activation_bits
        weight, float_weight = torch.zeros_like(like.weight.detach()), config.weight_bits == FLOAT_BITS
        scale = torch.ones_like(weight[:, :1], dtype=torch.promote_types(weight.dtype, torch.float32))
        self.register_buffer("weight", weight, persistent=float_weight)
        self.register_buffer("bias", None if like.bias is None else torch.zeros_like(like.bias.detach()))
        if not float_weight:
            self.register_buffer("weight_q", torch.zeros_like(weight, dtype=torch.uint8))
            self.register_buffer("weight_scale", scale)
            self.register_buffer("weight_zero_point", torch.zeros_like(scale, dtype=torch.int32))
        if config.activation_bits != FLOAT_BITS:
            self.register_buffer("activation_scale", scale[0, 0].clone())
            self.register_buffer("activation_zero_point", torch.zeros_like(scale[0, 0], dtype=torch.int32))
        self.register_load_state_dict_post_hook(_derive_weight)

    @classmethod
    @torch.no_grad()
    def from_float(
        cls, linear: nn.Linear, config: QuantConfig, activation_range: tuple[Float[Tensor, ""], Float[Tensor, ""]]
    ) -> "QuantizedLinear":
        """Quantize a float linear.

        Args:
            linear: left as it is.
            config: bits and the way weight ranges are chosen.
            activation_range: smallest and largest input value to represent.
        """
        result, weight = cls(linear, config), linear.weight.detach()
        if result.bias is not None:
            result.bias.copy_(linear.bias)
        if config.weight_bits == FLOAT_BITS:
            result.weight.copy_(weight)
        else:
            result.weight_q, result.weight_scale, result.weight_zero_point = quantize_weight(weight, config)
            _derive_weight(result)
        if config.activation_bits != FLOAT_BITS:
            scale, zero_point = affine_from_range(*activation_range, activation_spec(config.activation_bits))
            result.activation_scale.copy_(scale)
            result.activation_zero_point.copy_(zero_point)
        return result

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """``(..., d_in) -> (..., d_out)``."""
        if self.activation_bits != FLOAT_BITS:
            spec = activation_spec(self.activation_bits)
            x = fake_quantize(x, self.activation_scale, self.activation_zero_point, spec)
        return nn.functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Shown by ``repr``."""
        return f"{self.in_features}, {self.out_features}, W{self.weight_bits}A{self.activation_bits}"


def weight_spec(bits: int) -> AffineSpec:
    """Weights: asymmetric, one scale and zero point per output channel (PTQ4DiT Section 5.1)."""
    return AffineSpec(bits=bits, granularity="per_channel")


def activation_spec(bits: int) -> AffineSpec:
    """Activations: asymmetric, one static scale for the tensor at all timesteps (PTQ4DiT Section 5.1)."""
    return AffineSpec(bits=bits, granularity="per_tensor")


def quantize_weight(weight: Float[Tensor, "d_out d_in"], config: QuantConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Integers ``(d_out, d_in)``, scale and zero point ``(d_out, 1)`` of a weight; the scale in at least float32."""
    spec = weight_spec(config.weight_bits)
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    low, high = value_range(weight, spec)
    if config.weight_range == "mse":
        low, high = least_squares_range(weight, low, high, spec)
    scale, zero_point = affine_from_range(low, high, spec)
    return quantize(weight, scale, zero_point, spec), scale, zero_point


@torch.no_grad()
def _derive_weight(linear: QuantizedLinear, _incompatible_keys: object = None) -> None:
    if linear.weight_bits != FLOAT_BITS:
        linear.weight.copy_(dequantize(linear.weight_q, linear.weight_scale, linear.weight_zero_point))
