"""The first stage: the model's calibration, a few images at a time, so that it can go on where it stopped."""

from pathlib import Path

from ptq4dit.calibration.parts import calibrate_in_parts
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.prepare import PrepareConfig
from ptq4dit.model.bundle import Bundle
from ptq4dit.model.fingerprint import is_fingerprint_of
from ptq4dit.parallel import Progress
from ptq4dit.prepare.stage import Stage, Work
from ptq4dit.storage.home import CALIBRATION


def read(work: Work) -> Calibration | None:
    """The calibration that the home holds; None without one, or with one of other weights."""
    file = work.home / CALIBRATION
    try:
        stats = Calibration.load(file) if file.is_file() else None
    except ValueError:
        return None
    return stats if stats is not None and is_fingerprint_of(stats.model, work.model.transformer) else None


def _run(work: Work) -> None:
    """Calibrate what is missing; a calibration of other weights is kept under its own name."""
    _set_aside(work.home / CALIBRATION)
    calibrate_in_parts(
        work.model,
        work.config.calibration,
        work.home / CALIBRATION,
        prompts=list(work.config.prompts) or None,
        show=work.show,
        progress=work.progress,
        cancelled=work.cancelled,
    )


def first_part(model: Bundle, home: Path, config: PrepareConfig) -> Progress | None:
    """Do the first part only, which is kept for the work itself; what it all takes, None where all is done."""
    work = Work(model=model, home=home, config=config, made={})
    if read(work) is not None:
        return None
    home.mkdir(parents=True, exist_ok=True)
    prompts = list(config.prompts) or None
    return calibrate_in_parts(model, config.calibration, home / CALIBRATION, prompts=prompts, only_first=True)


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
