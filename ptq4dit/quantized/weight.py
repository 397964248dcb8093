"""Rounding of weights: integers with one scale and zero point for each output channel, or for each group in it."""

import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor

from ptq4dit.config.quantization import LayerConfig
from ptq4dit.numerics.affine import (
    AffineSpec,
    affine_from_range,
    dequantize,
    least_squares_range,
    percentile_range,
    quantize,
    value_range,
)

_CHUNK = 2**18
"""Values searched at a time: small enough to stay in a core's cache."""


def weight_spec(config: LayerConfig) -> AffineSpec:
    """Asymmetric with one scale and zero point per output channel by default (PTQ4DiT Section 5.1)."""
    return AffineSpec(bits=config.weight_bits, symmetric=config.weight_symmetric, granularity="per_group")


def groups_of(columns: int, config: LayerConfig) -> int:
    """How many scales a weight row has.

    Raises:
        ValueError: if a group size, of weights or activations, does not divide the row.
    """
    for name in ("group_size", "activation_group_size"):
        size = getattr(config, name)
        if size is not None and columns % size:
            divisors = [d for d in (8, 16, 32, 48, 64, 96, 128, 256) if columns % d == 0]
            article = "an" if name.startswith("a") else "a"
            raise ValueError(
                f"Expected {article} {name} that divides {columns} input channels, got {size}. Try one of {divisors}, "
                "or leave it at None."
            )
    return columns // (config.group_size or columns)


def weight_grid(
    weight: Float[Tensor, "d_out d_in"], config: LayerConfig
) -> tuple[Float[Tensor, "d_out groups"], Int[Tensor, "d_out groups"]]:
    """Scale (at least float32) and zero point of every group of a weight, its range chosen as the config says.

    The zero point counts from 0: a symmetric grid has ``2^(bits-1)``, so that integers are unsigned in either case.
    """
    spec = weight_spec(config)
    grouped = weight.to(torch.promote_types(weight.dtype, torch.float32)).unflatten(
        1, (groups_of(weight.shape[1], config), -1)
    )
    rows = max(1, _CHUNK // max(1, weight.shape[1]))
    parts = [_grid(chunk, config, spec) for chunk in grouped.split(rows)]
    scale, zero_point = (torch.cat(tensors).squeeze(-1) for tensors in zip(*parts, strict=True))
    return scale, zero_point - spec.qmin


def round_weight(
    weight: Float[Tensor, "d_out d_in"],
    scale: Float[Tensor, "d_out groups"],
    zero_point: Int[Tensor, "d_out groups"],
    bits: int,
) -> UInt8[Tensor, "d_out d_in"]:
    """The nearest integers on a grid, 0 to ``2^bits - 1``."""
    spec = AffineSpec(bits=bits, granularity="per_group")
    grouped = weight.to(scale.dtype).unflatten(1, (scale.shape[1], -1))
    return quantize(grouped, scale[..., None], zero_point[..., None], spec).flatten(1)


def expand_weight(
    weight_q: Integer[Tensor, "d_out d_in"],
    scale: Float[Tensor, "d_out groups"],
    zero_point: Int[Tensor, "d_out groups"],
) -> Float[Tensor, "d_out d_in"]:
    """The weight that the integers stand for (PTQ4DiT eq. 2)."""
    grouped = weight_q.unflatten(1, (scale.shape[1], -1))
    return dequantize(grouped, scale[..., None], zero_point[..., None]).flatten(1)


def quantize_weight(
    weight: Float[Tensor, "d_out d_in"], config: LayerConfig
) -> tuple[UInt8[Tensor, "d_out d_in"], Float[Tensor, "d_out groups"], Int[Tensor, "d_out groups"]]:
    """Integers ``(d_out, d_in)``, scale and zero point ``(d_out, groups)`` of a weight, rounded to nearest."""
    scale, zero_point = weight_grid(weight, config)
    return round_weight(weight, scale, zero_point, config.weight_bits), scale, zero_point


def _grid(grouped: Tensor, config: LayerConfig, spec: AffineSpec) -> tuple[Tensor, Tensor]:
    low, high = value_range(grouped, spec)
    if config.weight_range == "mse":
        low, high = least_squares_range(grouped, low, high, spec)
    elif config.weight_range == "percentile":
        low, high = percentile_range(grouped, low, high, spec)
    return affine_from_range(low, high, spec)
