"""Rounding of activations: one static scale, one for each group of timesteps, or one found for every token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptq4dit.config.quantization import FLOAT_BITS, LayerConfig
from ptq4dit.numerics.affine import AffineSpec, Granularity, affine_from_range, fake_quantize, value_range
from ptq4dit.quantized.timestep_groups import TimestepClock


def activation_spec(config: LayerConfig) -> AffineSpec:
    """The quantizer of a layer's input; asymmetric, one static scale for the tensor by default (Section 5.1).

    A symmetric one whose scale is found for every token is narrow (``max|x| / 127`` for 8 bits), as the kernels of
    processors round it.
    """
    granularity: Granularity = "per_token" if config.activation_granularity == "per_token" else "per_tensor"
    if config.activation_group_size is not None:
        granularity = "per_group"
    symmetric = config.activation_symmetric
    narrow = symmetric and config.activation_granularity == "per_token"
    return AffineSpec(bits=config.activation_bits, symmetric=symmetric, granularity=granularity, narrow=narrow)


def is_static(config: LayerConfig) -> bool:
    """Whether the activation's scale is known before inference."""
    return config.activation_bits != FLOAT_BITS and config.activation_granularity != "per_token"


def round_static(
    x: Float[Tensor, "*shape"],
    scale: Float[Tensor, "*groups"],
    zero_point: Int[Tensor, "*groups"],
    config: LayerConfig,
    clock: TimestepClock | None,
) -> Float[Tensor, "*shape"]:
    """Round with stored scales: ``()``, or ``(groups,)`` of which each row takes that of its timestep."""
    if scale.ndim == 1:
        assert clock is not None
        scale, zero_point = clock.pick(scale, x), clock.pick(zero_point, x)
    return fake_quantize(x, scale, zero_point, activation_spec(config)).to(x.dtype)


def round_dynamic(x: Float[Tensor, "*shape channel"], config: LayerConfig) -> Float[Tensor, "*shape channel"]:
    """Round every token with the range of its own values, or of each of its groups of channels."""
    wide = _grouped(x, config)
    scale, zero_point = dynamic_grid(x, config)
    return fake_quantize(wide, scale, zero_point, activation_spec(config)).reshape(x.shape).to(x.dtype)


def dynamic_grid(
    x: Float[Tensor, "*shape channel"], config: LayerConfig
) -> tuple[Float[Tensor, "*grids"], Int[Tensor, "*grids"]]:
    """Scale and zero point of every token's own grid, ``(*shape, 1)``, or of its groups, ``(*shape, groups, 1)``."""
    spec = activation_spec(config)
    return affine_from_range(*value_range(_grouped(x, config), spec), spec)


def _grouped(x: Tensor, config: LayerConfig) -> Tensor:
    """In groups of channels where there are such, and wide enough to find ranges in."""
    size = config.activation_group_size
    return (x if size is None else x.unflatten(-1, (-1, size))).to(torch.promote_types(x.dtype, torch.float32))
