"""What a reconstruction learns from: trajectories of the float model, as many as its config asks for."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from ptq4dit.calibration.trajectories import Trajectories, collect
from ptq4dit.calibration.trajectory_parts import collect_in_parts
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.parallel import Progress
from ptq4dit.storage.whole_file import require_place


def training_data(
    dit: Dit,
    calibration: CalibrationConfig,
    config: ReconstructionConfig | None,
    *,
    cancelled: Callable[[], bool] | None = None,
    folder: Path | None = None,
    prompts: Sequence[str] | None = None,
) -> Trajectories:
    """Sample what a reconstruction learns from: as many images, timesteps and sampling steps as its config asks for.

    Args:
        dit: the float bundle.
        calibration: gives seed and guidance, and whatever the other config leaves open.
        config: of the reconstruction; None for the calibration's own amounts.
        cancelled: asked before every step.
        folder: where they are kept; a later call with the same arguments reads them there, or goes on with them. All
            processes that there are share the work then.
        prompts: for a text-conditioned model, see `ptq4dit.calibrate`.
    """
    asked = _asked(calibration, config)
    if folder is None:
        return collect(dit, asked, cancelled=cancelled, prompts=prompts)
    path = _file(dit, asked, prompts, folder)
    if path.is_file():
        return Trajectories.load(path)
    require_place(folder)
    return collect_in_parts(dit, asked, path, prompts=prompts, cancelled=cancelled)[0]


def first_training_data(
    dit: Dit, calibration: CalibrationConfig, config: ReconstructionConfig, folder: Path
) -> tuple[Trajectories, Progress]:
    """The first of `training_data`, which are kept, and what they all take."""
    require_place(folder)
    asked = _asked(calibration, config)
    return collect_in_parts(dit, asked, _file(dit, asked, None, folder), only_first=True)


def _asked(calibration: CalibrationConfig, config: ReconstructionConfig | None) -> CalibrationConfig:
    """A calibration of the images and timesteps that are wanted."""
    if config is None:
        return calibration
    steps = config.sampling_steps or calibration.steps
    timesteps = config.timesteps or min(calibration.timesteps, steps)
    return dataclasses.replace(calibration, steps=steps, timesteps=timesteps, samples_per_timestep=config.images)


def _file(dit: Dit, asked: CalibrationConfig, prompts: Sequence[str] | None, folder: Path) -> Path:
    """Where data are kept, by all that they depend on."""
    texts = "" if prompts is None else f" {list(prompts)}"
    named = f"{fingerprint(dit.transformer)} {asked.to_json()}{texts}"
    return folder / f"data-{hashlib.blake2b(named.encode(), digest_size=8).hexdigest()}.safetensors"
