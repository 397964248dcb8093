"""PTQ4DiT on integers: this package's quantization and its integer backend, from a packed checkpoint."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptq4dit.backends.openvino import cpu_capabilities
from ptq4dit.backends.openvino_profile import profile_step
from ptq4dit.backends.options import FloatPrecision, IntegerOptions, chosen_precision
from ptq4dit.checkpoint.packed import load_quantized, save_quantized
from ptq4dit.config.quantization import QuantConfig
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


def _load(subject: Subject, folder: Path, threads: int, precision: FloatPrecision, *, fixed: bool) -> Loaded:
    torch.set_num_threads(threads)
    usual = chosen_precision("auto", _tokens(subject), 8, cpu_capabilities())

    @cache
    def transformer(batch: int | None) -> Any:
        options = IntegerOptions(threads=threads, precision=precision, batch=batch, cache=folder / _CACHE)
        return load_quantized(folder / _CHECKPOINT, backend="integer", options=options).transformer

    def fitting(inputs: Inputs) -> Any:
        return transformer(len(inputs.labels) if fixed else None)

    def bind(inputs: Inputs) -> Call:
        compiled = fitting(inputs)
        modulation = compiled.modulate(inputs.timesteps, inputs.labels)

        def call() -> Tensor:
            return compiled.predict(inputs.latents, modulation)

        return call

    def once(inputs: Inputs, steps: int) -> None:
        timesteps = torch.linspace(980, 20, steps).long().repeat_interleave(len(inputs.labels))
        fitting(inputs).modulate(timesteps, inputs.labels.repeat(steps))

    def profile(inputs: Inputs, calls: int) -> dict[str, Any]:
        compiled = fitting(inputs)
        return profile_step(compiled.step, inputs.latents, compiled.modulate(inputs.timesteps, inputs.labels), calls)

    if fixed:
        return Loaded(bind=bind, once=once, profile=profile, note=f"rest in {precision}, compiled for each batch")
    drawn = transformer(None) if precision == usual else None
    return Loaded(bind=bind, once=once, profile=profile, transformer=drawn, note=transformer(None).runtime)


def _tokens(subject: Subject) -> int:
    return int(subject.about["tokens"])


def _contestant(weight_bits: int, precision: FloatPrecision, kind: str, *, fixed: bool = False) -> Contestant:
    suffix = ("" if precision == "f32" else f"-{precision}") + "-fixed" * fixed
    return Contestant(
        key=f"ours-w{weight_bits}a8{suffix}",
        name=f"PTQ4DiT W{weight_bits}A8, {kind}",
        label=f"W{weight_bits}A8",
        execution="integer",
        forward=OWN,
        built=f"ours-w{weight_bits}a8",
        imports=("openvino",),
        build=lambda subject, folder: _build(subject, folder, weight_bits),
        load=lambda subject, folder, threads: _load(subject, folder, threads, precision, fixed=fixed),
        deployed=f"{_CHECKPOINT}/transformer",
    )


_KINDS: tuple[tuple[FloatPrecision, str], ...] = (
    ("f32", "rest fp32"),
    ("mixed", "attention bf16, rest fp32"),
    ("bf16", "rest bf16"),
)
ALL_PRECISIONS = (
    *(_contestant(bits, precision, kind) for bits in (8, 4) for precision, kind in _KINDS),
    _contestant(8, "f32", "rest fp32, fixed batch", fixed=True),
)
"""With a free batch size; the last one compiled for each, as the other tools' models are."""
