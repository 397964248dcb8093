"""Calibrate: sample real trajectories and watch the inputs of every quantized layer, in constant memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ptq4dit.calibration.recorder import Recorder
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.model.layers import require_finite
from ptq4dit.sampling.denoise import denoise, image_generator
from ptq4dit.sampling.prompts import default_prompts

_CLASS_STREAM, _ROW_STREAM = 1, 2


class Cancelled(RuntimeError):
    """Raised when the caller asked to stop before the result was complete."""


def calibrate(
    dit: Dit,
    config: CalibrationConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    *,
    prompts: Sequence[str] | None = None,
    batch_size: int = 8,
) -> Calibration:
    """Observe a float model while it samples images, with guidance (both halves are seen).

    A class-conditional model draws random classes, a text-conditioned one the given prompts, each image one at random.
    Memory grows with layers, timesteps and kept rows, not with the number of samples. An image's condition, noise and
    kept rows depend on the seed and its index only, so `Calibration.merge` of disjoint ranges equals one long
    calibration.

    Deviation: ranges are exact per-channel extremes and a bounded sample of rows, instead of all stored inputs.

    Args:
        dit: a float bundle.
        config: what to observe; None for the defaults.
        progress: called with (steps done, steps in all) after every denoising step.
        cancelled: asked before every step.
        prompts: for a text-conditioned model; None for the list that ships with the package.
        batch_size: images sampled at a time; changes speed and memory, not the result.

    Raises:
        Cancelled: once ``cancelled`` says True.
        ValueError: if the model is quantized already, or its weights or activations are not finite.
    """
    config = config or CalibrationConfig()
    require_finite(dit.transformer)
    end = config.first_sample + config.samples_per_timestep
    starts = range(config.first_sample, end, batch_size)
    images = range(0)

    def keys(position: int, call: int, rows: int, tokens: int) -> Tensor:
        return _row_keys(config.seed, images, position, call, rows, tokens)

    recorder = Recorder(dit.transformer, config, keys)
    with recorder.watching():
        for batch, start in enumerate(starts):
            images = range(start, min(start + batch_size, end))
            recorder.begin(observed_positions(config))
            done = 0
            for done in sampled_steps(dit, config, images, prompts, cancelled):
                if progress is not None:
                    progress(batch * config.steps + done, len(starts) * config.steps)
            if done < config.steps:
                raise Cancelled("Calibration was cancelled before its last step.")
    return recorder.result()


def observed_positions(config: CalibrationConfig) -> list[int]:
    """Positions in the sampling loop, 0-based, that are observed: evenly spread, first and last included."""
    if config.timesteps == 1:
        return [config.steps // 2]
    return torch.linspace(0, config.steps - 1, config.timesteps, dtype=torch.float64).round().int().tolist()


def sampled_steps(
    dit: Dit,
    config: CalibrationConfig,
    images: range,
    prompts: Sequence[str] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[int]:
    """Sample these images of a calibration, each of its own condition; yields the number of steps done."""
    chosen = conditions(dit, config, images, prompts)
    for state in denoise(
        dit,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        seed=config.seed,
        cancelled=cancelled,
        first_index=images.start,
        whole=True,
        **chosen,
    ):
        yield state.step


def conditions(
    dit: Dit, config: CalibrationConfig, images: range, prompts: Sequence[str] | None = None
) -> dict[str, Any]:
    """What these images are of, as `denoise` takes it: ``class_labels`` or ``prompts``, drawn at random."""
    generators = [image_generator(config.seed, image, _CLASS_STREAM) for image in images]
    if not dit.text_conditioned:
        return {"class_labels": [int(torch.randint(dit.num_classes, (), generator=g)) for g in generators]}
    known = list(default_prompts() if prompts is None else prompts)
    if not known:
        raise ValueError("Expected at least one prompt to calibrate with, got an empty list.")
    return {"prompts": [known[int(torch.randint(len(known), (), generator=g))] for g in generators]}


def _row_keys(seed: int, images: range, position: int, call: int, rows: int, tokens: int) -> Tensor:
    """One random key per token of the batch ``(rows, tokens)``: halves of guidance, images, tokens."""
    halves, streams = max(1, rows // len(images)), (position,) if call == 0 else (position, call)
    keys = [
        torch.rand(halves, tokens, dtype=torch.float64, generator=image_generator(seed, i, _ROW_STREAM, *streams))
        for i in images
    ]
    drawn = torch.stack(keys, dim=1).flatten(0, 1)
    return drawn if len(drawn) == rows else drawn.flatten()[: rows * tokens].reshape(rows, tokens)
