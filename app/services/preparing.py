"""What a model lacks, what making it costs here, and making it: one model at a time, with progress, until cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from app.services import loading, models
from app.services.cache import shared
from app.services.result_files import NoResultsError, model_results
from app.services.shelf import entry, is_owner, without_paths

if TYPE_CHECKING:
    from ptq4dit.config.prepare import PrepareConfig

_lock = Lock()
_jobs: dict[str, Job] = {}  # the last one of each model


@dataclass(kw_only=True, eq=False)
class Job:
    """Making what a model lacks: which stage it is at, how far; `ended` says how, once it has."""

    model: str
    stop: Event
    stage: str = "loading the model"
    done: int = 0
    total: int = 0
    ended: str = ""

    @property
    def percent(self) -> int:
        """How far the stage is."""
        return round(100 * self.done / self.total) if self.total else 0


@dataclass(frozen=True, kw_only=True)
class Lacking:
    """What a model lacks, in words and by stage; `seconds`: about how long making it takes, None while not known."""

    told: str
    stages: tuple[str, ...]
    seconds: float | None


def lacking(model: str) -> Lacking:
    """What is missing of a model. Raises ValueError for an unknown one."""
    about = models.outline(model)
    if about.quantized:
        return Lacking(told=loading.QUANTIZED, stages=(), seconds=None)
    calibrated = bool(about.layers) and not (loading.is_loaded(model) and loading.opened(model).stats is None)
    missing = [] if calibrated else ["calibration"]
    try:
        model_results(model, "results.json")
    except (NoResultsError, loading.ModelMissing):
        missing.append("examples")
    except ValueError:
        pass
    if not missing:
        return Lacking(told="", stages=(), seconds=None)
    what = {"calibration": "is not calibrated, so its layers cannot be shown", "examples": "has no stored pictures"}
    return Lacking(
        told=f"{model} {', and '.join(what[one] for one in missing)}.",
        stages=tuple(missing),
        seconds=_seconds(model, tuple(missing)),
    )


def begin(model: str) -> Job:
    """Begin to make what a model lacks; what runs already goes on. Raises ValueError for who does not own the app."""
    entry(model)
    if not is_owner():
        raise ValueError(f"prepare: expected whoever launched the app; run {loading.command(model)} instead")
    with _lock:
        running = [job for job in _jobs.values() if not job.ended]
        if any(job.model != model for job in running):
            raise ValueError(f"prepare: {running[0].model} is being prepared; wait for it, or cancel it")
        if running:
            return running[0]
        job = _jobs[model] = Job(model=model, stop=Event())
    Thread(target=_run, args=(job,), name="prepare", daemon=True).start()
    return job


def cancel(model: str) -> None:
    """End the making of what a model lacks; what is finished stays, and is not made again."""
    job = current(model)
    if job is not None and is_owner():
        job.stop.set()


def current(model: str) -> Job | None:
    """The last job of a model, running or ended."""
    with _lock:
        return _jobs.get(model)


def usual() -> PrepareConfig:
    """What is made here: what the command makes by default."""
    from ptq4dit.config.prepare import PrepareConfig

    return PrepareConfig()


def _run(job: Job) -> None:
    """Load, make, let the model be read anew; whatever goes wrong is told and not raised."""
    try:
        from ptq4dit.prepare.run import prepare
        from ptq4dit.storage.home import home
        from ptq4dit.storage.provenance import made_by

        chosen = entry(job.model)
        bundle = loading.opened(job.model).bundle
        made = made_by(f"python -m ptq4dit prepare {Path(chosen.source).name}", _threads())

        def tell(stage: str, done: int, total: int) -> None:
            job.stage, job.done, job.total = stage, done, total

        prepare(bundle, home(chosen.source), usual(), made, tell=tell, cancelled=job.stop.is_set)
        job.ended = "done"
    except (ValueError, RuntimeError, OSError) as error:
        job.ended = "cancelled" if job.stop.is_set() else without_paths(str(error).splitlines()[0])
    finally:
        job.ended = job.ended or "failed"
        loading.forget(job.model)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _seconds(model: str, missing: tuple[str, ...]) -> float | None:
    """About how long the missing stages take here; None until the model is loaded."""
    if not loading.is_loaded(model):
        return None
    try:
        return sum(seconds for stage, seconds in _needed(model).items() if stage in missing)
    except (loading.ModelMissing, ValueError):
        return None


@shared(maxsize=8)
def _needed(model: str) -> dict[str, float]:
    """Stage -> seconds, from the time of one step here."""
    from ptq4dit.prepare.run import seconds_needed

    return seconds_needed(loading.opened(model).bundle, usual())
