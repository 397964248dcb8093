"""Trajectories in parts of some images each: shared by processes, and gone on with where they were stopped."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from ptq4dit.calibration.joined_calls import Part, join
from ptq4dit.calibration.recorded_calls import RecordedCall, pick
from ptq4dit.calibration.trajectories import Trajectories, collect
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.bundle import Bundle
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.parallel import Job, Progress, processes, ranges

IMAGES = 8
"""Of a part: one batch."""


def collect_in_parts(
    dit: Bundle,
    config: CalibrationConfig,
    file: Path,
    *,
    prompts: Sequence[str] | None = None,
    only_first: bool = False,
    show: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Trajectories, Progress]:
    """Collect by all processes and write the file, which is the same for any number of them.

    What is unfinished waits in ``<file>.parts``, and is gone on with by the next call.

    Args:
        dit: a float bundle, the same in all processes.
        config: as for `collect`; ``samples_per_timestep`` is the number of images.
        file: to write.
        prompts: see `ptq4dit.calibrate`.
        only_first: do one part only, which is kept, and write no file.
        show: told how far all processes are, after each part of the first one.
        cancelled: asked before every step.

    Returns:
        The data, or those of the first part; and how far all are.
    """
    units = ranges(config.samples_per_timestep, IMAGES, config.first_sample)
    settings = {"format": "ptq4dit-trajectories-parts-1", "model": fingerprint(dit.transformer)}
    settings |= {"prompts": prompts} | dataclasses.asdict(config)
    job = Job(folder=file.with_name(f"{file.name}.parts"), settings=settings, units=list(units))

    def make(unit: str, path: Path) -> None:
        images = units[unit]
        part = dataclasses.replace(config, first_sample=images.start, samples_per_timestep=len(images))
        collect(dit, part, prompts=prompts, batch_size=IMAGES, cancelled=cancelled).save(path)

    taken = job.run(make, show, only_first=only_first)
    if only_first:
        return Trajectories.load(taken.files[0]), taken.progress
    if processes().first:
        joined([Trajectories.load(path) for path in taken.files]).save(file)
        job.clear()
    processes().wait()
    return Trajectories.load(file), taken.progress


def joined(parts: Sequence[Trajectories]) -> Trajectories:
    """The trajectories of all images from those of some each, which follow each other.

    Raises:
        ValueError: if they differ in more than their samples.
    """
    count = sum(part.config.samples_per_timestep for part in parts)
    config = dataclasses.replace(parts[0].config, samples_per_timestep=count)
    return Trajectories(config=config, **join([call for part in parts for call in _calls(part)]))


def _calls(part: Trajectories) -> Iterator[Part]:
    """The calls of a part again: one for every step and half of guidance, with all of its images."""
    first, count = part.config.first_sample, part.config.samples_per_timestep
    step = -1
    for start in (part.images == first).nonzero()[:, 0].tolist():
        rows = torch.arange(start, start + count)
        half = int(part.halves[start])
        step += half == 0
        call = RecordedCall(
            names=part.names,
            latents=part.latents[rows],
            timesteps=part.timesteps[rows],
            conditions={name: pick(value, rows) for name, value in part.conditions.items()},
            constants=dict(part.constants),
        )
        yield Part(step=step, half=half, images=range(first, first + count), call=call)
