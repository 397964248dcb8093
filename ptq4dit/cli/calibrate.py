"""``calibrate``: observe a float model while it samples."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ptq4dit
from ptq4dit.cli.options import add_dry_run, add_prompts, add_sampling
from ptq4dit.cli.progress import Parts, price, sampling_bar, told
from ptq4dit.cli.report import Report, lines
from ptq4dit.cli.source import add_model, add_offload, model_source, open_float, short_name
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.storage.whole_file import require_file

if TYPE_CHECKING:
    from ptq4dit import Bundle

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
    add_offload(command)
    add_dry_run(command)


def run(options: argparse.Namespace) -> Report:
    """Sample, and save what was seen."""
    from ptq4dit.calibration.parts import calibrate_in_parts

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
    model = open_float(source, options.device, options.offload)
    prompts = _prompts(model, options.prompts)
    taken = calibrate_in_parts(
        model, config, Path(file), only_first=options.dry_run, show=Parts().job, progress=sampling_bar(), **prompts
    )
    if options.dry_run:
        cost = price(taken)
        return Report(content=cost, text=told(cost))
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


def _prompts(model: "Bundle", file: str | None) -> dict[str, Any]:
    """What a text-conditioned model is calibrated with: the file's prompts, or those that ship with the package."""
    from ptq4dit.sampling.prompts import default_prompts, read_prompts

    if not model.text_conditioned:
        if file is not None:
            raise ValueError(f"Expected no --prompts for a {model.kind}, which takes class labels, got {file!r}.")
        return {}
    return {"prompts": default_prompts() if file is None else read_prompts(file)}
