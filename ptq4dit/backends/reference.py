"""The plain integer linear that every backend is held to: written to be read, exact, slow."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ptq4dit.numerics.affine import AffineSpec, quantize


def quantize_input(
    x: Float[Tensor, "*batch d_in"], scale: Float[Tensor, ""], zero_point: Int[Tensor, ""], bits: int = 8
) -> UInt8[Tensor, "*batch d_in"]:
    """``q = clamp(round(x / s) + z, 0, 2^bits - 1)`` (PTQ4DiT eq. 2): a static input as unsigned integers.

    Args:
        x: the input.
        scale, zero_point: of the whole tensor, on the unsigned grid; see `unsigned_zero_point`.
        bits: 2 to 8.
    """
    return quantize(x, scale, zero_point, AffineSpec(bits=bits)).to(torch.uint8)


def unsigned_zero_point(zero_point: Int[Tensor, "*shape"], bits: int, symmetric: bool) -> Int[Tensor, "*shape"]:
    """The zero point counted from the smallest integer of the grid; a symmetric grid begins at ``-2^(bits-1)``."""
    return zero_point + 2 ** (bits - 1) if symmetric else zero_point


def integer_linear(
    q: UInt8[Tensor, "*batch d_in"],
    activation_scale: Float[Tensor, ""],
    activation_zero_point: Int[Tensor, ""],
    weight_q: UInt8[Tensor, "d_out d_in"],
    weight_scale: Float[Tensor, "d_out 1"],
    weight_zero_point: Int[Tensor, "d_out 1"],
    bias: Float[Tensor, " d_out"] | None = None,
) -> Float[Tensor, "*batch d_out"]:
    """``y = s_x s_w sum_k (q_x - z_x) (q_w - z_w) + bias``, the sum in integers.

    Args:
        q: the input's integers.
        activation_scale, activation_zero_point: of the input.
        weight_q: unsigned integers of the weight.
        weight_scale, weight_zero_point: of every output channel.
        bias: float.

    Returns:
        The product in float32, or in float64 when the scales are.
    """
    total = (q.long() - activation_zero_point) @ (weight_q.long() - weight_zero_point).T
    result = total.to(weight_scale.dtype) * (activation_scale * weight_scale[:, 0])
    return result if bias is None else result + bias
