"""``sample``: draw pictures."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ptq4dit
from ptq4dit.cli.options import add_dry_run, add_prompts, add_sampling
from ptq4dit.cli.progress import Parts, price, sampling_bar, told
from ptq4dit.cli.report import Report, lines
from ptq4dit.cli.source import add_model, model_source, open_model, short_name
from ptq4dit.parallel import Job, processes, ranges
from ptq4dit.storage.whole_file import require_file, whole_file

if TYPE_CHECKING:
    from torch import Tensor

    from ptq4dit import Bundle

HELP = "Draw pictures, side by side in one PNG file."
_SHOWN, _EXAMPLES = 10, 4
PICTURES = 8
"""Of a part: one batch."""
_FORMAT = "ptq4dit-pictures-part-1"


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    add_model(command, "a float model, or a folder that quantize wrote; the demo if none")
    command.add_argument("--out", default=None, help="PNG file to write; <model>.png here if not given")
    command.add_argument("--classes", type=int, nargs="+", help=f"a class index for each picture; the first {_SHOWN}")
    add_prompts(command)
    command.add_argument("--prompt", action="append", metavar="TEXT", help="what a picture shows; repeatable")
    command.add_argument("--sampler", default=None, help="ddim, ddpm or dpm++; the model's own if not given")
    add_sampling(command, None, None)
    add_dry_run(command)


def run(options: argparse.Namespace) -> Report:
    """Sample and decode, by all processes, some pictures at a time; write them into one row."""
    from ptq4dit.sampling.denoise import default_settings
    from ptq4dit.storage.tensors import write_tensors

    source = model_source(options)
    file = Path(options.out or f"{short_name(source)}.png")
    require_file(file)
    model = open_model(source, options.device)
    wanted, shown = _wanted(model, options)
    steps, guidance = default_settings(model)
    about = ptq4dit.describe(model)
    content = {
        "file": str(file),
        "label": about["label"],
        "backend": about.get("backend", "float"),
        **shown,
        "steps": options.steps or steps,
        "guidance_scale": guidance if options.guidance is None else options.guidance,
        "seed": options.seed,
    }
    settings = {"format": _FORMAT, "model": _identity(model), "sampler": options.sampler, "of": wanted, **content}
    ((name, of),) = wanted.items()
    parts = ranges(len(of), PICTURES)
    job = Job(folder=file.with_name(f"{file.name}.parts"), settings=settings, units=list(parts))

    def make(unit: str, path: Path) -> None:
        images = parts[unit]
        pictures = _drawn(model, {name: of[images.start : images.stop]}, options, images)
        write_tensors(path, {"pictures": pictures}, {}, _FORMAT)

    taken = job.run(make, Parts().job, only_first=options.dry_run)
    if options.dry_run:
        cost = price(taken.progress)
        return Report(content=cost, text=told(cost))
    if processes().first:
        _write(file, taken.files)
        job.clear()
    return Report(content=content, text=lines(content))


def _drawn(model: "Bundle", wanted: dict[str, Any], options: argparse.Namespace, images: range) -> "Tensor":
    """Pictures of these indices, ``(n, height, width, 3)`` in 0 to 255."""
    from ptq4dit.sampling.denoise import default_settings

    last, total, bar = None, options.steps or default_settings(model)[0], sampling_bar()
    settings = options.steps, options.guidance, options.seed, options.sampler
    labels, prompts = wanted.get("class_labels"), wanted.get("prompts")
    for last in ptq4dit.denoise(model, labels, *settings, prompts=prompts, first_index=images.start):
        if bar is not None:
            bar(last.step, total)
    assert last is not None
    return (ptq4dit.decode(model, last.latents).permute(0, 2, 3, 1).float() * 255).round().byte().cpu()


def _write(file: Path, parts: Sequence[Path]) -> None:
    """All pictures side by side."""
    import torch
    from PIL import Image

    from ptq4dit.storage.tensors import read_tensors

    pictures = torch.cat([read_tensors(part, _FORMAT, "part of the pictures")[0]["pictures"] for part in parts])
    with whole_file(file) as new:
        Image.fromarray(pictures.permute(1, 0, 2, 3).flatten(1, 2).numpy()).save(new, format="PNG")


def _identity(model: "Bundle") -> Any:
    """What tells this model from others: its weights, or what made a quantized one."""
    from ptq4dit.model.fingerprint import fingerprint

    record = getattr(model.transformer, "ptq4dit_record", None)
    return fingerprint(model.transformer) if record is None else record.to_dict()


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
