"""PTQ4DiT on integers: this package's quantization and its integer backend, from a packed checkpoint."""

from pathlib import Path

import torch
from torch import Tensor

from ptq4dit.backends.dispatch import with_backend
from ptq4dit.backends.options import FloatPrecision, IntegerOptions
from ptq4dit.checkpoint import load_quantized, save_quantized
from ptq4dit.config import QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.speed.contestants.contestant import Call, Contestant, Loaded
from ptq4dit.speed.subject import Inputs, Subject

OWN = "own: conditioning and modulation once per sampling run"
_CHECKPOINT, _CACHE = "checkpoint", "compiled"


def _build(subject: Subject, folder: Path, weight_bits: int) -> None:
    """8-bit weights symmetric, as the integer backend likes them best.

    Random weights: plain ranges, conditioning and modulation too, since bytes and speed are the point.
    """
    random = subject.about["random_weights"]
    config = QuantConfig(
        weight_bits=weight_bits,
        activation_bits=8,
        weight_symmetric=weight_bits == 8,
        weight_range="minmax" if random else "mse",
        modulation=random,
        conditioning=random,
    )
    save_quantized(quantize(subject.dit(), subject.calibration(), config), folder / _CHECKPOINT)


def _load(subject: Subject, folder: Path, threads: int, precision: FloatPrecision) -> Loaded:
    torch.set_num_threads(threads)
    options = IntegerOptions(threads=threads, precision=precision, cache=folder / _CACHE)
    transformer = with_backend(load_quantized(folder / _CHECKPOINT), "integer", options).transformer

    def bind(inputs: Inputs) -> Call:
        modulation = transformer.modulate(inputs.timesteps, inputs.labels)

        def call() -> Tensor:
            return transformer.predict(inputs.latents, modulation)

        return call

    def once(inputs: Inputs, steps: int) -> None:
        timesteps = torch.linspace(980, 20, steps).long().repeat_interleave(len(inputs.labels))
        transformer.modulate(timesteps, inputs.labels.repeat(steps))

    return Loaded(bind=bind, once=once, note=f"rest in {precision}; {transformer.runtime}")


def _contestant(weight_bits: int, precision: FloatPrecision, kind: str) -> Contestant:
    suffix = "" if precision == "f32" else "-bf16"
    return Contestant(
        key=f"ours-w{weight_bits}a8{suffix}",
        name=f"PTQ4DiT W{weight_bits}A8, rest {kind}",
        label=f"W{weight_bits}A8",
        execution="integer",
        forward=OWN,
        built=f"ours-w{weight_bits}a8",
        imports=("openvino",),
        build=lambda subject, folder: _build(subject, folder, weight_bits),
        load=lambda subject, folder, threads: _load(subject, folder, threads, precision),
        deployed=f"{_CHECKPOINT}/transformer",
    )


W8A8, W8A8_HALF = _contestant(8, "f32", "fp32"), _contestant(8, "bf16", "bf16")
W4A8, W4A8_HALF = _contestant(4, "f32", "fp32"), _contestant(4, "bf16", "bf16")
