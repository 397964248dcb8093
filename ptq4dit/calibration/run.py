"""Calibrate: sample real trajectories and watch the inputs of every quantized layer, in constant memory."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ptq4dit.calibration.recorder import Recorder
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.model.layers import require_finite
from ptq4dit.sampling.denoise import denoise, image_generator, make_scheduler

_CLASS_STREAM, _ROW_STREAM = 1, 2


class Cancelled(RuntimeError):
    """Raised when the caller asked to stop before the result was complete."""


def calibrate(
    dit: Dit,
    config: CalibrationConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    *,
    batch_size: int = 8,
) -> Calibration:
    """Observe a float model while it samples images of random classes, with guidance (both halves are seen).

    Memory grows with layers, timesteps and kept rows, not with the number of samples. An image's class, noise and kept
    rows depend on the seed and its index only, so `Calibration.merge` of disjoint ranges equals one long calibration.

    Deviation: ranges are exact per-channel extremes and a bounded sample of rows, instead of all stored inputs.

    Args:
        dit: a float bundle.
        config: what to observe; None for the defaults.
        progress: called with (steps done, steps in all) after every denoising step.
        cancelled: asked before every step.
        batch_size: images sampled at a time; changes speed and memory, not the result.

    Raises:
        Cancelled: once ``cancelled`` says True.
        ValueError: if the model is quantized already, or its weights or activations are not finite.
    """
    config = config or CalibrationConfig()
    require_finite(dit.transformer)
    recorder = Recorder(dit.transformer, config)
    end = config.first_sample + config.samples_per_timestep
    starts = range(config.first_sample, end, batch_size)
    with recorder.watching(dit.transformer):
        for batch, start in enumerate(starts):
            images = range(start, min(start + batch_size, end))
            done = 0
            for done in _trajectory(dit, config, recorder, images, cancelled):
                if progress is not None:
                    progress(batch * config.steps + done, len(starts) * config.steps)
            if done < config.steps:
                raise Cancelled("Calibration was cancelled before its last step.")
    return recorder.result(dit)


def observed_positions(config: CalibrationConfig) -> list[int]:
    """Positions in the sampling loop, 0-based, that are observed: evenly spread, first and last included."""
    if config.timesteps == 1:
        return [config.steps // 2]
    return torch.linspace(0, config.steps - 1, config.timesteps, dtype=torch.float64).round().int().tolist()


def _trajectory(
    dit: Dit, config: CalibrationConfig, recorder: Recorder, images: range, cancelled: Callable[[], bool] | None
) -> Iterator[int]:
    """Sample these images, telling the recorder what each forward pass is; yields the number of steps done."""
    positions = {step: position for position, step in enumerate(observed_positions(config))}
    recorder.timesteps = make_scheduler(dit, config.steps, None).timesteps[list(positions)].tolist()

    def announce(step: int) -> None:
        position = positions.get(step)
        recorder.expect(position, None if position is None else _row_keys(dit, config, images, position))

    labels = [_random_class(dit, config, image) for image in images]
    announce(0)
    for state in denoise(
        dit, labels, config.steps, config.guidance_scale, config.seed, cancelled=cancelled, first_index=images.start
    ):
        announce(state.step)
        yield state.step


def _random_class(dit: Dit, config: CalibrationConfig, image: int) -> int:
    generator = image_generator(config.seed, image, _CLASS_STREAM)
    return int(torch.randint(dit.num_classes, (), generator=generator))


def _row_keys(dit: Dit, config: CalibrationConfig, images: range, position: int) -> Tensor:
    """One random key per token of the batch, in the batch's order: halves of guidance, images, tokens."""
    halves = 2 if config.guidance_scale > 1 else 1
    tokens = (dit.latent_shape[1] // int(dit.config.patch_size)) ** 2
    keys = [
        torch.rand(
            halves, tokens, dtype=torch.float64, generator=image_generator(config.seed, i, _ROW_STREAM, position)
        )
        for i in images
    ]
    return torch.stack(keys, dim=1).flatten()
