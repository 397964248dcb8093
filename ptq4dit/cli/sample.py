"""``sample``: draw pictures."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ptq4dit
from ptq4dit.cli.options import add_prompts, add_sampling
from ptq4dit.cli.report import Report, lines, show_steps
from ptq4dit.cli.source import add_model, model_source, open_model, short_name
from ptq4dit.storage.whole_file import require_file, whole_file

if TYPE_CHECKING:
    from ptq4dit import Bundle

HELP = "Draw pictures, side by side in one PNG file."
_SHOWN, _EXAMPLES = 10, 4


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    add_model(command, "a float model, or a folder that quantize wrote; the demo if none")
    command.add_argument("--out", default=None, help="PNG file to write; <model>.png here if not given")
    command.add_argument("--classes", type=int, nargs="+", help=f"a class index for each picture; the first {_SHOWN}")
    add_prompts(command)
    command.add_argument("--prompt", action="append", metavar="TEXT", help="what a picture shows; repeatable")
    command.add_argument("--sampler", default=None, help="ddim, ddpm or dpm++; the model's own if not given")
    add_sampling(command, None, None)


def run(options: argparse.Namespace) -> Report:
    """Sample, decode, write."""
    from PIL import Image

    from ptq4dit.sampling.denoise import default_settings

    source = model_source(options)
    file = Path(options.out or f"{short_name(source)}.png")
    require_file(file)
    model = open_model(source, options.device)
    wanted, shown = _wanted(model, options)
    steps, guidance = default_settings(model)
    total = options.steps or steps
    settings = options.steps, options.guidance, options.seed, options.sampler
    last: Any = None
    for last in ptq4dit.denoise(model, wanted.get("class_labels"), *settings, prompts=wanted.get("prompts")):
        show_steps(last.step, total)
    row = ptq4dit.decode(model, last.latents).permute(2, 0, 3, 1).flatten(1, 2).float()
    with whole_file(file) as new:
        Image.fromarray((row * 255).round().byte().cpu().numpy()).save(new, format="PNG")
    about = ptq4dit.describe(model)
    content = {
        "file": str(file),
        "label": about["label"],
        "backend": about.get("backend", "float"),
        **shown,
        "steps": last.step,
        "guidance_scale": guidance if options.guidance is None else options.guidance,
        "seed": options.seed,
    }
    return Report(content=content, text=lines(content))


def _wanted(model: "Bundle", options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the pictures show, as `denoise` takes it and as the report says it."""
    from ptq4dit.sampling.prompts import default_prompts, read_prompts

    texts = list(options.prompt or []) + (read_prompts(options.prompts) if options.prompts else [])
    if texts and options.classes:
        raise ValueError("Expected --classes or prompts, got both.")
    if texts or model.text_conditioned:
        if options.classes:
            raise ValueError(f"Expected --prompt or --prompts for a {model.kind}, got --classes.")
        texts = texts or default_prompts()[:_EXAMPLES]
        return {"prompts": texts}, {"prompts": texts}
    classes = options.classes or list(range(min(_SHOWN, model.num_classes)))
    known = all(index in model.id2label for index in classes)  # the request is refused otherwise
    return {"class_labels": classes}, {"classes": [model.id2label[index] for index in classes] if known else classes}
