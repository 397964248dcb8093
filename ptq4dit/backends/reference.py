"""The plain integer linear that every backend is held to: written to be read, exact, slow."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ptq4dit.backends.integer_linear import IntegerLinear
from ptq4dit.backends.token_linear import TokenLinear
from ptq4dit.numerics.affine import AffineSpec, affine_from_range, quantize, value_range


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


def token_integers(
    x: Float[Tensor, "*batch d_in"], layer: TokenLinear
) -> tuple[Int[Tensor, "*batch groups size"], Float[Tensor, "*batch groups 1"]]:
    """``q_x - z_x`` of every group of a token's channels, and their scales: PTQ4DiT eq. 2 with ranges found now."""
    x = x if layer.input_factor is None else x * layer.input_factor
    grouped = x.unflatten(-1, (-1, layer.input_group))
    scale, zero_point = affine_from_range(*value_range(grouped, layer.spec), layer.spec)
    return quantize(grouped, scale, zero_point, layer.spec).long() - zero_point, scale


def token_linear(x: Float[Tensor, "*batch d_in"], layer: TokenLinear) -> Float[Tensor, "*batch d_out"]:
    """``y = sum_g s_x,g s_w,g sum_(k in g) (q_x - z_x,g) (q_w - z_w,g) + bias``, inner sums in integers.

    Args:
        x: the input, not rounded.
        layer: whose scales are found for every token.

    Returns:
        The product in float64.
    """
    steps, scale = token_integers(x, layer)
    scale = scale.double().expand(steps.shape).flatten(-2)
    steps, result = steps.flatten(-2), layer.bias.double()
    for start in range(0, steps.shape[-1], layer.part_size):
        columns, group = slice(start, start + layer.part_size), start // layer.weight_group
        weight = layer.weight_q[:, columns].long() - layer.weight_zero_point[:, group : group + 1]
        sums = steps[..., columns] @ weight.T
        result = result + sums * layer.weight_scale[:, group].double() * scale[..., start : start + 1]
    return result
