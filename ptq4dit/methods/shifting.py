"""Shift the channels that a modulation makes by a constant, which it and the biases behind absorb (after RepQ-ViT)."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.methods.method import Job
from ptq4dit.model.bundle import Dit
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.model.layers import balanced_layers
from ptq4dit.paper.reparam import MODULATION_CHUNKS
from ptq4dit.quantized.convert import convert


def shiftable(stats: Calibration) -> list[str]:
    """The layers whose input a modulation shifts: qkv and fc1."""
    return [name for name in stats.layers if name.rsplit(".", 1)[-1] in MODULATION_CHUNKS]


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
