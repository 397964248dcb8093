"""Make all that is missing of a model, stage after stage; what is there is left alone."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from ptq4dit.config.prepare import PrepareConfig
from ptq4dit.model.bundle import Bundle
from ptq4dit.parallel import Progress, processes
from ptq4dit.prepare import benchmark, calibration, examples, sensitivity
from ptq4dit.prepare.stage import Stage, Tell, Work
from ptq4dit.sampling.denoise import denoise
from ptq4dit.sampling.prompts import default_prompts
from ptq4dit.storage.lock import alone

STAGES: tuple[Stage, ...] = (calibration.STAGE, sensitivity.STAGE, examples.STAGE, benchmark.STAGE)
"""In order; the first makes what all others need. A new stage is a file with a `Stage`, and a line here."""


def prepare(
    model: Bundle,
    home: Path,
    config: PrepareConfig,
    made: Mapping[str, Any],
    tell: Tell = lambda stage, done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
    show: Callable[[Progress], None] | None = None,
) -> list[str]:
    """Make what a config asks for and the home does not hold yet, of this very model.

    Args:
        model: a float bundle.
        home: folder that it is kept in, see `ptq4dit.storage.home.home`; made if need be.
        config: what to make.
        made: provenance, see `ptq4dit.storage.provenance.made_by`.
        tell: told how far each stage is.
        cancelled: asked between pieces of work.
        show: told how far all processes are with the calibration, which they share.

    Returns:
        Names of the stages that had something to do.

    Raises:
        Cancelled: once ``cancelled`` says True; what is finished stays, and is not made again.
        ValueError: for a model that is quantized already, and while somebody else prepares into this home.
    """
    home.mkdir(parents=True, exist_ok=True)
    work = Work(model=model, home=home, config=config, made=made, cancelled=cancelled, show=show)
    with alone(home, "prepare") if processes().first else nullcontext():  # the others of one job work for the first
        return _worked(work, tell)


def _worked(work: Work, tell: Tell) -> list[str]:
    """Run what is missing; the names of the stages that had something to do."""
    worked: list[str] = []
    for stage in STAGES:
        if not stage.wanted(work.config):
            continue
        work.go_on()
        here = dataclasses.replace(work, progress=_progress(tell, stage.name))
        if not stage.made(here):
            stage.run(here)
            worked.append(stage.name)
        if work.stats is None:
            work = dataclasses.replace(work, stats=calibration.read(work))
    return worked


def _progress(tell: Tell, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: tell(stage, done, total)


def seconds_needed(model: Bundle, config: PrepareConfig) -> dict[str, float]:
    """About how long each stage takes here, from the time of one step of sampling one image; by stage.

    What learns its rounding takes longer than the benchmark's estimate says, which counts its pictures only.
    """
    step = seconds_per_step(model, config.guidance_scale)
    return {stage.name: step * stage.evaluations(config) for stage in STAGES if stage.wanted(config)}


def seconds_per_step(model: Bundle, guidance_scale: float) -> float:
    """The time of one step of sampling one image, the second of two: the first one warms up."""
    what: dict[str, Any] = {"class_labels": [0]}
    if model.text_conditioned:
        what = {"prompts": default_prompts()[:1]}
    steps = denoise(model, steps=4, guidance_scale=guidance_scale, **what)
    next(steps)
    begun = time.perf_counter()
    for _ in islice(steps, 1):
        pass
    return time.perf_counter() - begun
