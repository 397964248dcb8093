"""The uniform quantizer: what it is (spec), how its range is chosen, and how it rounds (PTQ4DiT eq. 2)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

Granularity = Literal["per_tensor", "per_channel", "per_token", "per_group"]
CLIPPING_FRACTIONS: tuple[float, ...] = tuple(step / 50 for step in range(50, 14, -1))
"""Fractions of the full range tried by the least-squared-error search, 1.0 down to 0.3, widest first."""
PERCENTILES: tuple[float, ...] = (0.99999, 0.9999, 0.999)
"""The clipping percentiles of PTQ4DiT's released code, widest first."""


@dataclass(frozen=True, kw_only=True)
class AffineSpec:
    """What a uniform quantizer looks like, apart from its scale.

    ======================  ===============  ======================
    granularity             input shape      scale shape
    ======================  ===============  ======================
    per_tensor              any              ()
    per_channel (weights)   (d_out, d_in)    (d_out, 1)
    per_token               (..., d_in)      (..., 1)
    per_group               (..., g, size)   (..., g, 1)
    ======================  ===============  ======================

    Attributes:
        bits: 2 to 8.
        symmetric: zero point fixed at 0 and ``qmin = -2^(bits-1)``; otherwise ``qmin = 0``.
        granularity: what shares one scale.
        narrow: symmetric without its lowest integer, so that ``qmin = -qmax`` and the largest magnitude is ``qmax``
            exactly.
    """

    bits: int
    symmetric: bool = False
    granularity: Granularity = "per_tensor"
    narrow: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"Expected 2 to 8 bits, got {self.bits}. Leave a tensor in float instead of 16 bits.")
        if self.narrow and not self.symmetric:
            raise ValueError("Expected narrow=True of symmetric grids only, got an asymmetric one. Set symmetric=True.")

    @property
    def qmin(self) -> int:
        """Smallest integer of the grid."""
        return self.narrow - 2 ** (self.bits - 1) if self.symmetric else 0

    @property
    def qmax(self) -> int:
        """Largest integer of the grid."""
        return 2 ** (self.bits - 1) - 1 if self.symmetric else 2**self.bits - 1

    @property
    def dtype(self) -> torch.dtype:
        """Storage type of the integers."""
        return torch.int8 if self.symmetric else torch.uint8


def value_range(x: Float[Tensor, "..."], spec: AffineSpec) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Smallest and largest value of whatever shares one scale, shaped like the scale (see `AffineSpec`)."""
    if spec.granularity == "per_tensor":
        low, high = torch.aminmax(x)
        return low, high
    dims = tuple(range(1, x.ndim)) if spec.granularity == "per_channel" else (-1,)
    return x.amin(dim=dims, keepdim=True), x.amax(dim=dims, keepdim=True)


def affine_from_range(
    low: Float[Tensor, "*scale"], high: Float[Tensor, "*scale"], spec: AffineSpec
) -> tuple[Float[Tensor, "*scale"], Int[Tensor, "*scale"]]:
    """Scale and zero point whose grid covers ``[min(low, 0), max(high, 0)]``; zero is always on the grid.

    Asymmetric: ``scale = (high - low) / (2^b - 1)``, ``zero_point = qmin - round(low / scale)``.
    Symmetric: ``scale = max(|low|, |high|) / ((2^b - 1) / 2)``, ``zero_point = 0``, as PyTorch's observers do; narrow:
    ``scale = max(|low|, |high|) / (2^(b-1) - 1)``.

    Args:
        low: smallest values.
        high: largest values, same shape.
        spec: the quantizer.

    Returns:
        Scale (> 0 even for an empty range) and integer zero point, both of the shape of ``low``.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    smallest = torch.finfo(torch.float32).tiny
    if spec.symmetric:
        scale = (torch.maximum(-low, high) / ((spec.qmax - spec.qmin) / 2)).clamp(min=smallest)
        return scale, torch.zeros_like(scale, dtype=torch.int32)
    scale = ((high - low) / (spec.qmax - spec.qmin)).clamp(min=smallest)
    zero_point = spec.qmin - torch.round(low / scale)
    return scale, zero_point.clamp(spec.qmin, spec.qmax).to(torch.int32)


def quantize(
    x: Float[Tensor, "..."], scale: Float[Tensor, "..."], zero_point: Int[Tensor, "..."], spec: AffineSpec
) -> Integer[Tensor, "..."]:
    """``q = clamp(round(x / scale) + zero_point, qmin, qmax)`` (PTQ4DiT eq. 2), ties to even.

    The division is a product with ``1 / scale``, as in PyTorch's kernels, so that both give the same bits.
    """
    return (_steps_from_zero(x, scale, zero_point, spec) + zero_point).to(spec.dtype)


def dequantize(
    q: Integer[Tensor, "..."], scale: Float[Tensor, "..."], zero_point: Int[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """``x~ = scale * (q - zero_point)`` (PTQ4DiT eq. 2), in the type of ``scale``."""
    return (q.to(scale.dtype) - zero_point) * scale


def fake_quantize(
    x: Float[Tensor, "*shape"], scale: Float[Tensor, "..."], zero_point: Int[Tensor, "..."], spec: AffineSpec
) -> Float[Tensor, "*shape"]:
    """`dequantize` of `quantize`: the float values that the integers stand for.

    Several times faster than ``torch.fake_quantize_per_tensor_affine`` on a CPU, with the same result.
    """
    return _steps_from_zero(x, scale, zero_point, spec) * scale


def least_squares_range(
    x: Float[Tensor, "..."], low: Float[Tensor, "*scale"], high: Float[Tensor, "*scale"], spec: AffineSpec
) -> tuple[Float[Tensor, "*scale"], Float[Tensor, "*scale"]]:
    """Clip a range so that rounding ``x`` makes the least squared error.

    Every fraction of `CLIPPING_FRACTIONS` is tried on the upper end with the lower one fixed, then on the lower end
    (on both at once when symmetric). A fraction replaces a wider one only if it is strictly better.

    Deviation: PTQ4DiT's released code tries the percentiles of `percentile_range` only; fractions of the range find
    narrower ranges at 4 bits and fewer.

    Args:
        x: values that the range is for, shaped as `AffineSpec` says.
        low: smallest values, shaped like the scale.
        high: largest values, shaped like the scale.
        spec: the quantizer.

    Returns:
        The clipped low and high.
    """
    ends = ((True, True),) if spec.symmetric else ((False, True), (True, False))
    for clip_low, clip_high in ends:
        best = torch.full_like(low, torch.inf)
        best_low, best_high = low, high
        for fraction in CLIPPING_FRACTIONS:
            new_low, new_high = low * fraction if clip_low else low, high * fraction if clip_high else high
            error = _squared_error(x, new_low, new_high, spec)
            better = error < best
            best = torch.where(better, error, best)
            best_low, best_high = torch.where(better, new_low, best_low), torch.where(better, new_high, best_high)
        low, high = best_low, best_high
    return low, high


def percentile_range(
    x: Float[Tensor, "..."], low: Float[Tensor, "*scale"], high: Float[Tensor, "*scale"], spec: AffineSpec
) -> tuple[Float[Tensor, "*scale"], Float[Tensor, "*scale"]]:
    """The best of the three ranges ``[quantile(1 - p), quantile(p)]``, p in `PERCENTILES`, by squared error.

    Args:
        x: values that the range is for; quantiles are interpolated between neighbouring values.
        low, high: the full range, which bounds the result and is kept where nothing is better.
        spec: the quantizer.

    Returns:
        The clipped low and high, shaped like the scale.
    """
    best, best_low, best_high = _squared_error(x, low, high, spec), low, high
    ordered = (x.flatten() if spec.granularity == "per_tensor" else x.flatten(1) if _by_row(spec) else x).sort().values
    for fraction in PERCENTILES:
        new_low = torch.maximum(_interpolated(ordered, 1 - fraction, low), low)
        new_high = torch.minimum(_interpolated(ordered, fraction, high), high)
        error = _squared_error(x, new_low, new_high, spec)
        better = error < best
        best = torch.where(better, error, best)
        best_low, best_high = torch.where(better, new_low, best_low), torch.where(better, new_high, best_high)
    return best_low, best_high


def _interpolated(ordered: Tensor, fraction: float, like: Tensor) -> Tensor:
    """Quantile of sorted values along the last axis; `torch.quantile` refuses more than 16 million values."""
    position = fraction * (ordered.shape[-1] - 1)
    below = min(int(position), ordered.shape[-1] - 1)
    above = min(below + 1, ordered.shape[-1] - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], position - below).reshape(like.shape)


def _by_row(spec: AffineSpec) -> bool:
    return spec.granularity == "per_channel"


def _squared_error(x: Tensor, low: Tensor, high: Tensor, spec: AffineSpec) -> Tensor:
    scale, zero_point = affine_from_range(low, high, spec)
    error = (fake_quantize(x, scale, zero_point, spec) - x).square()
    if spec.granularity == "per_tensor":
        return error.sum()
    return error.sum(dim=tuple(range(1, x.ndim)) if spec.granularity == "per_channel" else (-1,), keepdim=True)


def _steps_from_zero(x: Tensor, scale: Tensor, zero_point: Tensor, spec: AffineSpec) -> Tensor:
    """``q - zero_point`` as floats; minimum and maximum because clamp with tensor bounds is not vectorized."""
    low, high = (spec.qmin - zero_point).to(scale.dtype), (spec.qmax - zero_point).to(scale.dtype)
    return torch.maximum(torch.minimum(torch.round(x * (1 / scale)), high), low)
