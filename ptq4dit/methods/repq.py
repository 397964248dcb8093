"""RepQ-ViT: channel-wise ranges after a normalization, folded into one range for the tensor; log-sqrt2 softmax.

Simplified: q and k keep one static range each; the softmax is rounded only where the config rounds the softmax.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.affine import AffineSpec, affine_from_range
from ptq4dit.calibration import Calibration
from ptq4dit.config import QuantConfig
from ptq4dit.dit import Dit
from ptq4dit.fingerprint import fingerprint
from ptq4dit.linears import balanced_layers
from ptq4dit.methods.method import Job, Method
from ptq4dit.paper.reparam import MODULATION_CHUNKS
from ptq4dit.quantized.convert import convert

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


@torch.no_grad()
def shift_inputs(transformer: nn.Module, shifts: Mapping[str, Float[Tensor, " channel"]]) -> nn.Module:
    """Add a constant to the inputs of qkv and fc1 and take its effect out of their biases; the output stays.

    Args:
        transformer: a float DiT, left as it is.
        shifts: layer name -> ``(d_in,)``.
    """
    result = copy.deepcopy(transformer)
    for name, layer in balanced_layers(result).items():
        if name not in shifts:
            continue
        shift, width = shifts[name].double(), layer.in_features
        rows = slice(MODULATION_CHUNKS[layer.role][0] * width, (MODULATION_CHUNKS[layer.role][0] + 1) * width)
        modulation: Any = result.get_submodule(f"transformer_blocks.{layer.block}.norm1.linear")
        bias = modulation.bias[rows]
        modulation.bias[rows] = (bias.double() + shift.to(bias.device)).to(bias.dtype)
        for linear in layer.linears:
            if linear.bias is None:
                raise ValueError(f"Expected a bias in {name} to fold a shift into, got none. Use another method.")
            linear.bias.copy_(linear.bias.double() - linear.weight.double() @ shift.to(linear.weight.device))
    return result


def shifted(stats: Calibration, shifts: Mapping[str, Tensor], transformer: nn.Module) -> Calibration:
    """The calibration of ``transformer = shift_inputs(original, shifts)``."""

    def moved(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: (value.to(shifts[name].dtype) + shifts[name]).to(value.dtype) if name in shifts else value
            for name, value in values.items()
        }

    return dataclasses.replace(
        stats,
        model=fingerprint(transformer),
        activation_min=moved(stats.activation_min),
        activation_max=moved(stats.activation_max),
        samples=moved(stats.samples),
    )


def shiftable(stats: Calibration) -> list[str]:
    """The layers whose input a modulation shifts: qkv and fc1."""
    return [name for name in stats.layers if name.rsplit(".", 1)[-1] in MODULATION_CHUNKS]


def run(job: Job) -> Dit:
    """Shift, scale, fold, round."""
    grids = {name: channel_grids(job.stats, name) for name in shiftable(job.stats)}
    shifts = {name: shift for name, (_, shift) in grids.items()}
    return run_shifted(job, shifts, lambda *_: {name: factor for name, (factor, _) in grids.items()})


def run_shifted(
    job: Job,
    shifts: Mapping[str, Float[Tensor, " channel"]],
    balance: Callable[[nn.Module, Calibration], Mapping[str, Float[Tensor, " channel"]]],
) -> Dit:
    """Shift inputs, fold factors, round, reconstruct if asked.

    Args:
        job: what to make.
        shifts: see `shift_inputs`.
        balance: (shifted transformer, its calibration) -> factors.
    """
    transformer = shift_inputs(job.dit.transformer, shifts)
    moved, seen = job.dit.with_transformer(transformer), shifted(job.stats, shifts, transformer)
    factors = balance(transformer, seen)
    model = convert(moved, seen, job.config, factors)
    record = model.transformer.ptq4dit_record
    model.transformer.ptq4dit_record = dataclasses.replace(record, model=job.stats.model)  # what it was made from
    return job.reconstructed(model, factors, transformer)


METHOD = Method(
    name="repq",
    title="RepQ*",
    citation="Li et al. 2023 (RepQ-ViT), arXiv 2212.08254",
    summary="Channel-wise activation grids after each normalization are folded into one grid for the tensor.",
    inference="nothing (shifts instead of products after the softmax, where that is rounded)",
    prepare=prepare,
    run=run,
)
