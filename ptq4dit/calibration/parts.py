"""A calibration in parts of some images each: shared by processes, and gone on with where it was stopped."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from ptq4dit.calibration.run import calibrate
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.bundle import Bundle
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.parallel import Job, Progress, processes, ranges

IMAGES = 8
"""Of a part: one batch."""


def calibrate_in_parts(
    model: Bundle,
    config: CalibrationConfig,
    file: Path,
    *,
    prompts: Sequence[str] | None = None,
    only_first: bool = False,
    show: Callable[[Progress], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Progress:
    """Calibrate by all processes and write the file, which is the same for any number of them.

    What is unfinished waits in ``<file>.parts``, and is gone on with by the next call.

    Args:
        model: a float bundle, the same in all processes.
        config: what to observe.
        file: to write; what is there is replaced.
        prompts: see `calibrate`.
        only_first: do one part only, which is kept.
        show: told how far all processes are, after each part of the first one.
        progress: called with (sampling steps done, in all), by this process's own parts and those before them.
        cancelled: asked before every step.

    Returns:
        How far all are, and what it takes.

    Raises:
        Cancelled: once ``cancelled`` says True.
        ValueError: if the parts that are there are of something else, or as `calibrate`.
    """
    parts = ranges(config.samples_per_timestep, IMAGES, config.first_sample)
    settings = {"format": "ptq4dit-calibration-parts-1", "model": fingerprint(model.transformer)}
    settings |= {"prompts": prompts} | dataclasses.asdict(config)
    job = Job(folder=file.with_name(f"{file.name}.parts"), settings=settings, units=list(parts))

    def make(unit: str, path: Path) -> None:
        images, before = parts[unit], list(parts).index(unit)
        part = dataclasses.replace(config, first_sample=images.start, samples_per_timestep=len(images))

        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(before * total + done, len(parts) * total)

        calibrate(model, part, prompts=prompts, batch_size=IMAGES, progress=tell, cancelled=cancelled).save(path)

    taken = job.run(make, show, only_first=only_first)
    if processes().first and not only_first:
        joined = Calibration.load(taken.files[0])
        for path in taken.files[1:]:  # of many parts no more than two are in memory
            joined = joined.merge(Calibration.load(path))
        joined.save(file)
        job.clear()
    processes().wait()
    return taken.progress
