"""RepQ-ViT: channel-wise ranges after a normalization, folded into one range for the tensor; log-sqrt2 softmax.

Simplified: q and k keep one static range each; the softmax is rounded only where the config rounds the softmax.
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Job, Method
from ptq4dit.methods.shifting import run_shifted, shiftable
from ptq4dit.model.bundle import Dit
from ptq4dit.numerics.affine import AffineSpec, affine_from_range

_BITS = 8
"""Bits of the channel-wise grids that are averaged; the ratio of two scales hardly depends on it."""


def prepare(config: QuantConfig) -> QuantConfig:
    """Log-sqrt2 where the softmax is rounded."""
    options = dict(config.options) | {"softmax": "log_sqrt2"}
    return dataclasses.replace(config, csb=False, ssc=False, weight_range="mse", options=tuple(options.items()))


def channel_grids(stats: Calibration, layer: str) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    """Factor and shift of every channel that give all channels one grid (RepQ-ViT eqs. 5-8).

    With channel-wise scale ``s`` and zero point ``z``, their means ``s~`` and ``z~``, ``r1 = s / s~``,
    ``r2 = z - z~``: ``x~ = (x + s r2) / r1`` has scale ``s~`` and zero point ``z~`` in every channel.

    Returns:
        ``1 / r1`` and ``s r2``, ``(d_in,)`` each.
    """
    low, high = stats.activation_min[layer].amin(dim=0), stats.activation_max[layer].amax(dim=0)
    scale, _ = affine_from_range(low, high, AffineSpec(bits=_BITS))
    alive = high > low
    scale = torch.where(alive, scale, scale[alive].mean() if alive.any() else 1.0)
    zero_point = -torch.round(low.clamp(max=0) / scale)
    return scale.mean() / scale, scale * (zero_point - zero_point.mean().round())


def run(job: Job) -> Dit:
    """Shift, scale, fold, round."""
    grids = {name: channel_grids(job.stats, name) for name in shiftable(job.sites)}
    shifts = {name: shift for name, (_, shift) in grids.items()}
    return run_shifted(job, shifts, lambda *_: {name: factor for name, (factor, _) in grids.items()})


METHOD = Method(
    name="repq",
    title="RepQ*",
    citation="Li et al. 2023 (RepQ-ViT), arXiv 2212.08254",
    summary="Channel-wise activation grids after each normalization are folded into one grid for the tensor.",
    inference="nothing (shifts instead of products after the softmax, where that is rounded)",
    prepare=prepare,
    run=run,
    place=60,
)
