"""torch in float: eager, compiled, bf16; diffusers' own model as it is."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ptq4dit.speed.contestants.contestant import Call, Contestant, Loaded, nothing
from ptq4dit.speed.subject import Inputs, Subject

STOCK = "diffusers' own"


class Plain(nn.Module):
    """diffusers' model with tensors in and a tensor out, which is what tracing and exporting want."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, latents: Tensor, timestep: Tensor, class_labels: Tensor) -> Tensor:
        """(latents, timestep, class_labels) -> sample."""
        return self.transformer(latents, timestep=timestep, class_labels=class_labels).sample


def calls(module: Any, dtype: torch.dtype = torch.float32) -> Loaded:
    """A torch module as a contestant that is ready."""

    def bind(inputs: Inputs) -> Call:
        given = inputs.cast(dtype)

        def call() -> Tensor:
            with torch.no_grad():
                return module(given.latents, given.timesteps, given.labels)

        return call

    return Loaded(bind=bind)


def _eager(subject: Subject, folder: Path, threads: int) -> Loaded:
    torch.set_num_threads(threads)
    transformer = subject.transformer()
    return dataclasses.replace(calls(Plain(transformer)), transformer=transformer)


def _compiled(subject: Subject, folder: Path, threads: int) -> Loaded:
    torch.set_num_threads(threads)
    torch._dynamo.reset()
    return calls(torch.compile(Plain(subject.transformer()), dynamic=False))


def _save_half(subject: Subject, folder: Path) -> None:
    subject.transformer().to(torch.bfloat16).save_pretrained(folder, max_shard_size="50GB")


def _half(subject: Subject, folder: Path, threads: int) -> Loaded:
    torch.set_num_threads(threads)
    transformer = subject.transformer_of(folder, torch.bfloat16)
    return calls(Plain(transformer), torch.bfloat16)


BASELINE = Contestant(
    key="torch-fp32",
    name="torch fp32, eager",
    label="FP32",
    execution="float",
    forward=STOCK,
    built="torch",
    imports=("torch",),
    build=nothing,
    load=_eager,
    deployed=None,
)
COMPILED = Contestant(
    key="torch-compile",
    name="torch fp32, torch.compile",
    label="FP32",
    execution="float",
    forward=STOCK,
    built="torch",
    imports=("torch",),
    build=nothing,
    load=_compiled,
    deployed=None,
)
HALF = Contestant(
    key="torch-bf16",
    name="torch bf16, eager",
    label="BF16",
    execution="float",
    forward=STOCK,
    built="torch-bf16",
    imports=("torch",),
    build=_save_half,
    load=_half,
)
