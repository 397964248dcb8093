"""``speed``: how fast a model runs and how much memory it takes, ours beside what else a user could pick."""

import argparse
import os
import shlex
from pathlib import Path

from ptq4dit.cli.output import add_out, out_file
from ptq4dit.cli.report import Report, say
from ptq4dit.cli.source import demo_path, short_name
from ptq4dit.speed.config import XL, SpeedConfig

OTHERS = ("sd3", "pixart")
"""Stand for models of these families with random weights; see `ptq4dit.speed.families`."""
HELP = "Time a model in float and on integers, ours and other tools', in turn in one process; memory and bytes too."


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    defaults = SpeedConfig(source="")
    text = f"a float model, {XL!r} for DiT-XL/2's size or {OTHERS} for theirs, with random weights; the demo if none"
    command.add_argument("model", nargs="?", default=None, help=text)
    command.add_argument("--model", dest="named", default=None, help="the same, by name")
    command.add_argument("--blocks", type=int, default=None, help="keep the first blocks only")
    command.add_argument("--heads", type=int, default=None, help=f"of {XL}: its width over 72")
    command.add_argument("--side", type=int, default=None, help=f"of the latents of {XL}: pixels over 8")
    command.add_argument("--batch", type=int, nargs="+", default=list(defaults.batches), help="rows of a forward pass")
    command.add_argument("--rounds", type=int, default=defaults.rounds, help="timed calls of each")
    command.add_argument("--only", nargs="+", default=[], help="contestants, besides torch in fp32; all if not given")
    command.add_argument("--steps", type=int, default=defaults.steps, help="sampling steps of an image")
    command.add_argument("--guidance", type=float, default=defaults.guidance_scale, help="guidance scale, 1 for none")
    text = "keep all loaded and time them in turn, a large model's too, which is otherwise timed one by one"
    command.add_argument("--together", action="store_true", help=text)
    command.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of every runtime")
    text = "processor seconds in place of the clock's, for a machine that others use; with --threads 1"
    command.add_argument("--processor-time", action="store_true", help=text)
    command.add_argument("--seed", type=int, default=0, help="of inputs and random weights")
    command.add_argument("--profile", action="store_true", help="also where a forward pass's time goes")
    command.add_argument("--images", type=int, default=0, help="also draw an image that often with each, in turn")
    text = "also draw so many pictures with each from the same noise: PSNR to the first one's; of trained models"
    command.add_argument("--pictures", type=int, default=0, help=text)
    command.add_argument("--keep", default=None, help="folder that keeps what is built, for another run")
    add_out(command, "JSON file to write")


def run(options: argparse.Namespace) -> Report:
    """Measure and report; everything is also in ``--out``."""
    from ptq4dit.speed.run import measure_speed
    from ptq4dit.speed.table import markdown
    from ptq4dit.storage.json_file import write_json
    from ptq4dit.storage.provenance import made_by

    source = options.named or options.model or demo_path()
    if options.explorer and source in (XL, *OTHERS):
        raise ValueError(f"Expected a model of one's own to keep its speed with, got {source!r}. Give --out instead.")
    out = out_file(options, source, "speed.json")
    if source in OTHERS:
        return _family(source, options)
    config = SpeedConfig(
        source=source,
        blocks=options.blocks,
        heads=options.heads,
        side=options.side,
        batches=tuple(options.batch),
        rounds=options.rounds,
        only=tuple(options.only),
        steps=options.steps,
        guidance_scale=options.guidance,
        processor_time=options.processor_time,
        together=options.together or None,
        threads=options.threads,
        seed=options.seed,
        profile=options.profile,
        images=options.images,
        pictures=options.pictures,
        keep=options.keep,
    )
    made = made_by(_command(options), config.threads)
    content = measure_speed(config, made, _line)
    if out is not None:
        write_json(out, content)
    name = "DiT-XL/2's size, random weights" if source == XL else short_name(source)
    tables = [
        f"{name}, {content['model']['blocks']} blocks, batch {batch}\n\n{markdown(content, batch)}"
        for batch in config.batches
    ]
    return Report(content=content, text="\n".join(tables))


def _family(name: str, options: argparse.Namespace) -> Report:
    """A transformer of another family: fewer contestants, in turn in this process."""
    from ptq4dit.speed.families import FamilySpeed, markdown, measure_family
    from ptq4dit.storage.json_file import write_json
    from ptq4dit.storage.provenance import made_by

    config = FamilySpeed(
        family=name,
        blocks=options.blocks or 4,
        batch=options.batch[0],
        rounds=options.rounds,
        threads=options.threads,
        seed=options.seed,
    )
    content = measure_family(config, made_by(_command(options), config.threads), _line)
    if options.out:
        write_json(Path(options.out), content)
    return Report(content=content, text=f"{name}, {config.blocks} blocks, batch {config.batch}\n\n{markdown(content)}")


def _command(options: argparse.Namespace) -> str:
    """What to type for the same measurement."""
    flags = {
        "--blocks": options.blocks,
        "--heads": options.heads,
        "--side": options.side,
        "--batch": options.batch,
        "--rounds": options.rounds,
        "--only": options.only,
        "--steps": options.steps,
        "--guidance": options.guidance,
        "--threads": options.threads,
        "--seed": options.seed,
        "--images": options.images or None,
        "--pictures": options.pictures or None,
    }
    given = {flag: value if isinstance(value, list) else [value] for flag, value in flags.items()}
    typed = [word for flag, values in given.items() if values not in ([], [None]) for word in (flag, *values)]
    switches = ["--together"] * options.together + ["--profile"] * options.profile
    switches += ["--processor-time"] * options.processor_time
    named = [name for name in (options.named or options.model,) if name]
    return shlex.join(["python", "-m", "ptq4dit", "speed", *named, *map(str, typed), *switches])


def _line(text: str) -> None:
    say(text + "\n")
