"""Calibrate whatever a person runs anyway: their own loop, their own pipeline, any transformer."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ptq4dit.calibration.recorder import Recorder
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.layers import require_finite
from ptq4dit.sampling.denoise import image_generator


class Watch:
    """What a transformer was given while it was watched."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def calibration(self) -> Calibration:
        """The statistics of all that passed, by timestep.

        Raises:
            ValueError: if no forward pass, or only one timestep, was seen, or an activation was not finite.
        """
        timesteps = len(self._recorder.timesteps)
        if timesteps == 1:
            raise ValueError(
                f"Expected several timesteps, got {self._recorder.timesteps[0]} only. Run a whole sampling loop inside "
                "`with ptq4dit.watch(...)`."
            )
        if timesteps:
            self._recorder.config = CalibrationConfig(
                timesteps=timesteps,
                steps=timesteps,
                samples_per_timestep=max(1, self._recorder.samples // timesteps),
                guidance_scale=1.0,
                rows_per_timestep=self._recorder.config.rows_per_timestep,
            )
        return self._recorder.result()


@contextmanager
def watch(transformer: nn.Module, *, rows_per_timestep: int = 8, seed: int = 0) -> Iterator[Watch]:
    """Observe a float transformer in whatever runs inside the ``with`` block.

    The timestep of every call is read off its arguments, so pipelines, loops, guidance in one batch or in two calls
    are alike, and threads too. What was seen stays available after the block; the hooks are gone.

    Args:
        transformer: any float transformer, of diffusers or of your own.
        rows_per_timestep: token rows kept per layer and timestep, drawn uniformly from all that passed.
        seed: chooses them.

    Yields:
        A `Watch`, whose ``calibration()`` is what `quantize_transformer` takes.

    Raises:
        ValueError: if it is no torch module, is quantized already, or its weights are not finite.
    """
    if not isinstance(transformer, nn.Module):
        raise ValueError(f"Expected a transformer, a torch module, got a {type(transformer).__name__}.")
    require_finite(transformer)
    calls = 0

    def keys(position: int, call: int, rows: int, tokens: int) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.rand(rows, tokens, dtype=torch.float64, generator=image_generator(seed, calls))

    recorder = Recorder(transformer, CalibrationConfig(rows_per_timestep=rows_per_timestep), keys)
    recorder.begin()
    with recorder.watching(everybody=True):
        yield Watch(recorder)
