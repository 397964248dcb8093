"""The first stage: the model's calibration, a few images at a time, so that it can go on where it stopped."""

import dataclasses
from pathlib import Path

from ptq4dit.calibration.run import calibrate
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.prepare import PrepareConfig
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.prepare.stage import Stage, Work
from ptq4dit.storage.home import CALIBRATION

AT_A_TIME = 4
"""Images of a part; the result does not depend on it."""


def read(work: Work) -> Calibration | None:
    """The calibration that the home holds; None without one, or with one of other weights."""
    file = work.home / CALIBRATION
    try:
        stats = Calibration.load(file) if file.is_file() else None
    except ValueError:
        return None
    return stats if stats is not None and stats.model == fingerprint(work.model.transformer) else None


def _run(work: Work) -> None:
    """Calibrate what is missing, join the parts; a calibration of other weights is kept under its own name."""
    parts, config = [], work.config.calibration
    scratch = work.home / "unfinished"
    scratch.mkdir(parents=True, exist_ok=True)
    starts = range(0, config.samples_per_timestep, AT_A_TIME)
    for number, start in enumerate(starts):
        count = min(AT_A_TIME, config.samples_per_timestep - start)
        part = dataclasses.replace(config, first_sample=start, samples_per_timestep=count)
        parts.append(_part(work, part, scratch / f"calibration-{start}.safetensors", number, len(starts)))
    whole = parts[0].merge(*parts[1:])
    _set_aside(work.home / CALIBRATION)
    whole.save(work.home / CALIBRATION)
    for file in scratch.glob("calibration-*.safetensors"):
        file.unlink()
    if not any(scratch.iterdir()):
        scratch.rmdir()


def _part(work: Work, config: CalibrationConfig, file: Path, number: int, count: int) -> Calibration:
    """A part that was made before, else made now."""
    known = Calibration.load(file) if file.is_file() else None
    if known is not None and known.config == config and known.model == fingerprint(work.model.transformer):
        return known
    stats = calibrate(
        work.model,
        config,
        progress=lambda done, total: work.progress(number * total + done, count * total),
        cancelled=work.cancelled,
        prompts=list(work.config.prompts) or None,
    )
    stats.save(file)
    return stats


def _set_aside(file: Path) -> None:
    """Keep a calibration of other weights, which is somebody's work, under the name of the model that it is of."""
    if file.is_file():
        try:
            former = Calibration.load(file).model[:12]
        except ValueError:
            former = "damaged"
        file.rename(file.with_name(f"calibration-{former}.safetensors"))


def _evaluations(config: PrepareConfig) -> int:
    return config.calibration.steps * config.calibration.samples_per_timestep


STAGE = Stage(
    name="calibration",
    file=CALIBRATION,
    wanted=lambda config: True,
    made=lambda work: read(work) is not None,
    run=_run,
    evaluations=_evaluations,
)
