"""The plain integer linear that every backend is held to: written to be read, exact, slow."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ptq4dit.backends.integer_linear import IntegerLinear
from ptq4dit.numerics.affine import AffineSpec, quantize


def quantize_input(x: Float[Tensor, "*batch d_in"], layer: IntegerLinear) -> UInt8[Tensor, "*batch d_in"]:
    """``q_x = clamp(round(x f / s_x) + z_x, 0, 2^bits - 1)`` (PTQ4DiT eq. 2): a static input as unsigned integers."""
    assert layer.activation_scale is not None and layer.activation_zero_point is not None
    x = x if layer.input_factor is None else x * layer.input_factor
    spec = AffineSpec(bits=layer.activation_bits)
    return quantize(x, layer.activation_scale, layer.activation_zero_point, spec).to(torch.uint8)


def integer_linear(x: Float[Tensor, "*batch d_in"], layer: IntegerLinear) -> Float[Tensor, "*batch d_out"]:
    """``y = s_x s_w sum_k (q_x - z_x) (w - c) + bias``, the sum in integers.

    Args:
        x: the input, not rounded.
        layer: with one static grid.

    Returns:
        The product in float32, or in float64 when the scales are.
    """
    scale, zero_point = layer.grid
    weight = layer.weight.long() - layer.correction[:, None]
    total = (quantize_input(x, layer).long() - zero_point) @ weight.T
    return total.to(layer.weight_scale.dtype) * (layer.weight_scale * scale) + layer.bias
