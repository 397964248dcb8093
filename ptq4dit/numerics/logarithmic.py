"""Logarithmic quantizers for values in [0, 1], such as a softmax: many small steps near zero (RepQ-ViT)."""

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

LogBase = Literal["log2", "log_sqrt2"]
_PER_OCTAVE = {"log2": 1, "log_sqrt2": 2}


def quantize_log(x: Float[Tensor, "*shape"], bits: int, base: LogBase = "log2") -> UInt8[Tensor, "*shape"]:
    """``q = clamp(round(-log_b x), 0, 2^bits - 1)`` with ``b`` = 2 or sqrt 2 (RepQ-ViT eq. 9); 0 gets the largest q."""
    exponent = torch.round(-torch.log2(x) * _PER_OCTAVE[base])
    return exponent.clamp(0, 2**bits - 1).to(torch.uint8)


def dequantize_log(q: UInt8[Tensor, "*shape"], base: LogBase = "log2") -> Float[Tensor, "*shape"]:
    """``b^(-q)``; for sqrt 2 it is ``2^-ceil(q/2)`` times sqrt 2 where q is odd, a shift and a parity (eq. 12)."""
    if base == "log2":
        return torch.exp2(-q.float())
    odd = (q & 1).float()
    return torch.exp2(-((q.float() + odd) / 2)) * (1 + odd * (2**0.5 - 1))


def fake_quantize_log(x: Float[Tensor, "*shape"], bits: int, base: LogBase = "log2") -> Float[Tensor, "*shape"]:
    """`dequantize_log` of `quantize_log`, in the type of ``x``."""
    return dequantize_log(quantize_log(x, bits, base), base).to(x.dtype)
