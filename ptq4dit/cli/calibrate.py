"""``calibrate``: observe a float model while it samples."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ptq4dit
from ptq4dit.cli.options import add_dry_run, add_prompts, add_sampling
from ptq4dit.cli.report import Report, lines, price, show_parts, show_steps
from ptq4dit.cli.source import add_model, model_source, open_float, short_name
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.parallel import Job, processes, ranges
from ptq4dit.storage.whole_file import require_file

if TYPE_CHECKING:
    from ptq4dit import Bundle

IMAGES = 8
"""Of a part: one batch."""
HELP = "Observe a float model while it samples, and write its calibration."


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    defaults = CalibrationConfig()
    add_model(command, "a diffusers pipeline folder, a hub id or a .pt file; the demo if none")
    command.add_argument("--out", default=None, help="file to write; <model>-calibration.safetensors here if not given")
    command.add_argument("--timesteps", type=int, default=defaults.timesteps, help="timesteps observed")
    command.add_argument("--samples", type=int, default=defaults.samples_per_timestep, help="images sampled")
    command.add_argument("--first-sample", type=int, default=0, help="index of the first image, to share the work")
    add_prompts(command)
    add_sampling(command, defaults.steps)
    add_dry_run(command)


def run(options: argparse.Namespace) -> Report:
    """Sample, and save what was seen."""
    config = CalibrationConfig(
        timesteps=options.timesteps,
        samples_per_timestep=options.samples,
        guidance_scale=options.guidance,
        seed=options.seed,
        steps=options.steps,
        first_sample=options.first_sample,
    )
    source = model_source(options)
    file = options.out or f"{short_name(source)}-calibration.safetensors"
    require_file(Path(file))
    model = open_float(source, options.device)
    prompts = _prompts(model, options.prompts)
    cost = calibrate_in_parts(model, config, Path(file), only_first=options.dry_run, **prompts)
    if options.dry_run:
        return Report(content=cost, text=lines(cost))
    stats = ptq4dit.Calibration.load(file)
    content = {
        "file": file,
        "source": source,
        "layers": len(stats.layers),
        "timesteps": len(stats.timesteps),
        "samples": config.samples_per_timestep,
        "model": stats.model,
    }
    return Report(content=content, text=lines(content))


def calibrate_in_parts(
    model: "Bundle",
    config: CalibrationConfig,
    file: Path,
    *,
    prompts: Sequence[str] | None = None,
    only_first: bool = False,
) -> dict[str, Any]:
    """Calibrate by all processes, some images at a time, and write the file; goes on where it stopped.

    The file is the same for any number of processes. What is unfinished waits in ``<file>.parts``.

    Args:
        model: a float bundle, the same in all processes.
        config: what to observe.
        file: to write.
        prompts: see `ptq4dit.calibrate`.
        only_first: do one part only, which is kept.

    Returns:
        What it takes, see `price`.

    Raises:
        ValueError: if the parts that are there are of something else.
    """
    from ptq4dit.model.fingerprint import fingerprint

    parts = ranges(config.samples_per_timestep, IMAGES, config.first_sample)
    settings = {"format": "ptq4dit-calibration-parts-1", "model": fingerprint(model.transformer), "prompts": prompts}
    job = Job(
        folder=file.with_name(f"{file.name}.parts"),
        settings=settings | dataclasses.asdict(config),
        units=list(parts),
    )

    def make(unit: str, path: Path) -> None:
        images = parts[unit]
        part = dataclasses.replace(config, first_sample=images.start, samples_per_timestep=len(images))
        ptq4dit.calibrate(model, part, prompts=prompts, batch_size=IMAGES, progress=show_steps).save(path)

    taken = job.run(make, show_parts, only_first=only_first)
    if processes().first and not only_first:
        joined = ptq4dit.Calibration.load(taken.files[0])
        for path in taken.files[1:]:  # of many parts no more than two are in memory
            joined = joined.merge(ptq4dit.Calibration.load(path))
        joined.save(file)
        job.clear()
    processes().wait()
    return price(taken.progress, processes().count)


def _prompts(model: "Bundle", file: str | None) -> dict[str, Any]:
    """What a text-conditioned model is calibrated with: the file's prompts, or those that ship with the package."""
    from ptq4dit.sampling.prompts import default_prompts, read_prompts

    if not model.text_conditioned:
        if file is not None:
            raise ValueError(f"Expected no --prompts for a {model.kind}, which takes class labels, got {file!r}.")
        return {}
    return {"prompts": default_prompts() if file is None else read_prompts(file)}
