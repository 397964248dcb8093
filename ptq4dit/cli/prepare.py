"""``prepare``: make all that the explorer shows of a model."""

import argparse
import dataclasses
import shlex
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from ptq4dit.cli.options import add_dry_run, add_prompts, given_prompts
from ptq4dit.cli.progress import Bar, Parts, priced, told
from ptq4dit.cli.report import Report, duration, lines, say
from ptq4dit.cli.source import add_model, add_offload, model_source, open_float
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.prepare import PrepareConfig
from ptq4dit.parallel import processes

if TYPE_CHECKING:
    import ptq4dit

HELP = "Make what the explorer shows of a model: calibration, sensitivity, examples, a benchmark if asked; resumable."


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    usual = PrepareConfig()
    add_model(command, "a diffusers pipeline folder, a hub id or a .pt file; the demo if none")
    command.add_argument("--cache", default=None, help="folder for what cannot be kept beside the model")
    command.add_argument("--timesteps", type=int, default=usual.calibration.timesteps, help="timesteps observed")
    command.add_argument("--samples", type=int, default=usual.calibration.samples_per_timestep, help="images observed")
    command.add_argument("--calibration-steps", type=int, default=usual.calibration.steps, help="steps of each of them")
    command.add_argument(
        "--sensitivity",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="what each layer's rounding does",
    )
    command.add_argument("--examples", type=int, default=usual.examples, help="stored pictures of a variant; 0: none")
    command.add_argument("--pictures", type=int, default=usual.pictures, help="behind the mean of a variant")
    command.add_argument("--steps", type=int, default=usual.steps, help="sampling steps of the examples")
    command.add_argument("--guidance", type=float, default=usual.guidance_scale, help="guidance scale, 1 for none")
    command.add_argument("--benchmark", action="store_true", help="measure every method too, which takes hours")
    add_prompts(command)
    add_offload(command)
    add_dry_run(command)


def run(options: argparse.Namespace) -> Report:
    """Make what is missing."""
    import torch

    from ptq4dit.prepare.calibration import STAGE
    from ptq4dit.prepare.run import prepare, seconds_needed
    from ptq4dit.storage.home import home
    from ptq4dit.storage.provenance import made_by

    config, source = asked(options), model_source(options)
    model, kept = open_float(source, options.device, options.offload), home(source, options.cache)
    needed = seconds_needed(model, config)
    said = ", ".join(f"{name} about {duration(seconds)}" for name, seconds in needed.items())
    say(f"Kept in {kept}. Where nothing is made yet: {said}.\n")
    here = processes()
    if options.dry_run:
        return _price(model, kept, config, needed)
    if not here.first:  # shares the calibration; the first process makes the rest of it
        config = dataclasses.replace(config, sensitivity=False, examples=0, benchmark=False)
    made = made_by(
        shlex.join(["python -m ptq4dit prepare", Path(source).name]).replace("'", ""), torch.get_num_threads()
    )
    bars: dict[str, Bar] = defaultdict(lambda: Bar("step"))

    def tell(stage: str, done: int, total: int) -> None:
        if here.count == 1 or stage != STAGE.name:  # which several do together, and show in parts
            bars[stage](done, total)

    worked = prepare(model, kept, config, made, tell=tell, show=Parts().job if here.count > 1 else None)
    here.wait()
    content = {"kept": str(kept), "made": worked, "seconds_expected": {k: round(v, 1) for k, v in needed.items()}}
    return Report(content=content, text=lines(content))


def _price(model: "ptq4dit.Bundle", kept: Path, config: PrepareConfig, needed: dict[str, float]) -> Report:
    """What it takes, by a step of sampling and the first part of the calibration, which is kept."""
    from ptq4dit.prepare.calibration import first_part

    first = first_part(model, kept, config)
    seconds, parts = dict(needed), (len(needed), 0)
    seconds["calibration"] = 0.0 if first is None else first.seconds_left
    disk = 0 if first is None else first.bytes * (1 + first.total)
    each = {name: round(value, 1) for name, value in seconds.items()}
    cost = priced(*parts, sum(seconds.values()), disk=disk, seconds_expected=each)
    return Report(content=cost, text=told(cost))


def asked(options: argparse.Namespace) -> PrepareConfig:
    """The config that the options describe."""
    return PrepareConfig(
        calibration=CalibrationConfig(
            timesteps=options.timesteps,
            samples_per_timestep=options.samples,
            guidance_scale=options.guidance,
            steps=options.calibration_steps,
        ),
        sensitivity=options.sensitivity,
        examples=options.examples,
        pictures=options.pictures,
        steps=options.steps,
        guidance_scale=options.guidance,
        prompts=given_prompts(options),
        benchmark=options.benchmark,
    )
