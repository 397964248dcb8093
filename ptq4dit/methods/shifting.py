"""Shift the channels that a modulation makes by a constant, which it and the biases behind absorb (after RepQ-ViT)."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.methods.method import Job
from ptq4dit.model.bundle import Dit
from ptq4dit.model.families.absorber import Modulation
from ptq4dit.model.layers import Layer, balanced_layers
from ptq4dit.model.streamed import rewrite, weights


def shiftable(layers: Mapping[str, Layer]) -> list[str]:
    """The sites whose input a modulation shifts, and whose linears have a bias to take the shift out again."""
    return [
        name
        for name, layer in layers.items()
        if isinstance(layer.absorber, Modulation)
        and layer.absorber.shift is not None
        and all(linear.bias is not None for linear in layer.linears)
    ]


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
    seen = shifted(job.stats, shifts)
    factors = balance(transformer, seen)
    model = job.converted(factors, dit=job.dit.with_transformer(transformer), stats=seen)
    return job.reconstructed(model, factors, transformer)


@torch.no_grad()
def shift_inputs(transformer: nn.Module, shifts: Mapping[str, Float[Tensor, " channel"]]) -> nn.Module:
    """Add a constant to the inputs of `shiftable` sites and take its effect out of their biases; the output stays.

    Args:
        transformer: a float transformer, left as it is.
        shifts: layer name -> ``(d_in,)``.
    """
    result = copy.deepcopy(transformer)
    for name, layer in balanced_layers(result).items():
        if name not in shifts:
            continue
        shift = shifts[name].double()
        assert isinstance(layer.absorber, Modulation) and layer.absorber.shift is not None
        rows = slice(*layer.absorber.shift)
        rewrite(result.get_submodule(layer.absorber.linear), "bias", partial(_added, rows=rows, values=shift))
        for linear in layer.linears:
            with weights(linear):
                effect = linear.weight.double() @ shift.to(linear.weight.device)
            rewrite(linear, "bias", partial(_added, rows=slice(None), values=-effect))
    return result


def _added(bias: Tensor, *, rows: slice, values: Tensor) -> Tensor:
    result = bias.clone()
    result[rows] = (bias[rows].double() + values.to(bias.device)).to(bias.dtype)
    return result


def shifted(stats: Calibration, shifts: Mapping[str, Tensor]) -> Calibration:
    """The calibration of ``shift_inputs(original, shifts)``; it still names the original, which is quantized."""

    def moved(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: (value.to(shifts[name].dtype) + shifts[name]).to(value.dtype) if name in shifts else value
            for name, value in values.items()
        }

    return dataclasses.replace(
        stats,
        activation_min=moved(stats.activation_min),
        activation_max=moved(stats.activation_max),
        samples=moved(stats.samples),
    )
