"""``sample``: draw pictures."""

import argparse
import os
from pathlib import Path
from typing import Any

import ptq4dit
from ptq4dit.cli.options import add_sampling
from ptq4dit.cli.report import Report, lines, show_steps
from ptq4dit.cli.source import add_model, model_source, open_model, short_name

HELP = "Draw pictures, side by side in one PNG file."
_SHOWN = 10


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    add_model(command, "a float model, or a folder that quantize wrote; the demo if none")
    command.add_argument("--out", default=None, help="PNG file to write; <model>.png here if not given")
    command.add_argument("--classes", type=int, nargs="+", help=f"a class index for each picture; the first {_SHOWN}")
    command.add_argument("--sampler", default=None, help="ddim, ddpm or dpm++; the model's own if not given")
    add_sampling(command, 50)


def run(options: argparse.Namespace) -> Report:
    """Sample, decode, write."""
    from PIL import Image

    source = model_source(options)
    model, file = open_model(source, options.device), Path(options.out or f"{short_name(source)}.png")
    classes = options.classes or list(range(min(_SHOWN, model.num_classes)))
    last: Any = None
    for last in ptq4dit.denoise(model, classes, options.steps, options.guidance, options.seed, options.sampler):
        show_steps(last.step, options.steps)
    row = ptq4dit.decode(model, last.latents).permute(2, 0, 3, 1).flatten(1, 2)
    partial = file.with_name(file.name + ".partial")
    Image.fromarray((row * 255).round().byte().cpu().numpy()).save(partial, format="PNG")
    os.replace(partial, file)
    about = ptq4dit.describe(model)
    content = {
        "file": str(file),
        "label": about["label"],
        "backend": about.get("backend", "float"),
        "classes": [model.id2label[index] for index in classes],
        "steps": options.steps,
        "guidance_scale": options.guidance,
        "seed": options.seed,
    }
    return Report(content=content, text=lines(content))
