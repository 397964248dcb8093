"""``quantize``: make a quantized checkpoint from a float model."""

import argparse
import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ptq4dit
from ptq4dit.cli.options import add_dry_run, add_quantization, quantization
from ptq4dit.cli.progress import Bar, told
from ptq4dit.cli.report import Report, lines
from ptq4dit.cli.source import (
    add_model,
    add_offload,
    model_source,
    open_calibration,
    open_float,
    require_float,
    short_name,
)
from ptq4dit.parallel import Job, processes
from ptq4dit.storage.disk import require_room
from ptq4dit.storage.folder import require_writable
from ptq4dit.storage.provenance import same_model
from ptq4dit.storage.whole_file import require_place

_LEAST = 0.7
"""What a checkpoint takes at least, as a share of all weights at the bits asked for: copies are stored once."""
HELP = "Quantize a float model with its calibration, and write a checkpoint that loads without either."


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    add_model(command, "a DiTPipeline folder, a hub id or a .pt file; the demo if none")
    command.add_argument("--out", default=None, help="folder to write; such as demo-w8a8 here if not given")
    add_quantization(command)
    command.add_argument(
        "--budget", type=int, default=None, metavar="BYTES", help="of the checkpoint: choose weight bits layer by layer"
    )
    command.add_argument("--sensitivity", default=None, help="file written by sensitivity, for --budget")
    command.add_argument("--state", default=None, help="folder where reconstruction keeps its state, to go on there")
    command.add_argument("--seed", type=int, default=0, help="seed of reconstruction")
    add_offload(command)
    add_dry_run(command)


def run(options: argparse.Namespace) -> Report:
    """Quantize and save."""
    from ptq4dit.checkpoint.manifest import KIND
    from ptq4dit.checkpoint.packed import packed_bytes
    from ptq4dit.sharing import together

    here, config, source = processes(), quantization(options, options.seed), model_source(options)
    require_float(source)
    stats = open_calibration(options.calibration, source)
    config = _within_budget(config, options, stats.model)
    name = f"{short_name(source)}-{config.label.lower()}"
    folder = Path(options.out or (name if config.method == "ptq4dit" else f"{name}-{config.method}"))
    if here.first:
        require_writable(folder, KIND)
    if options.state:
        require_place(Path(options.state))
    dit = open_float(source, options.device, options.offload)
    weights = sum(parameter.numel() for parameter in dit.transformer.parameters())
    require_room(folder, int(_LEAST * weights * min(config.weight_bits, 8) / 8))
    if options.dry_run:
        return _price(options, dit, stats, config, folder)
    begun = time.monotonic()
    with _kept(options, folder, config, stats) as state, together():
        bar = Bar("reconstruction step", disk=int(_LEAST * weights * min(config.weight_bits, 8) / 8))
        model = ptq4dit.quantize(dit, stats, config, progress=bar, folder=state)
        seconds = time.monotonic() - begun
        if here.first:
            ptq4dit.save_quantized(model, folder)
        here.wait()
    stored, whole = packed_bytes(model), sum(t.numel() * 4 for t in dit.transformer.state_dict().values())
    content = {
        "folder": str(folder),
        "label": config.label,
        "method": config.method,
        "backend": config.backend,
        "bytes": stored,
        "share_of_float32": round(stored / whole, 4),
        "seconds": round(seconds, 1),
    }
    return Report(content=content, text=lines(content))


def _price(
    options: argparse.Namespace,
    dit: "ptq4dit.Bundle",
    stats: "ptq4dit.Calibration",
    config: ptq4dit.QuantConfig,
    out: Path,
) -> Report:
    """What it takes; the images that were sampled to know it are kept for the work itself."""
    from ptq4dit.cli.quantize_price import quantize_price

    job = _waiting(out, config, stats)
    if not options.state and job is not None:
        job.claim()
    place = Path(options.state) if options.state else Path() if job is None else job.folder
    cost = quantize_price(dit, stats, config, place)
    return Report(content=cost, text=told(cost))


def _waiting(folder: Path, config: ptq4dit.QuantConfig, stats: "ptq4dit.Calibration") -> Job | None:
    """Where finished blocks wait beside a checkpoint, and what they are of; None where nothing is learned."""
    if ptq4dit.METHODS[config.method].prepared(config).reconstruction is None:
        return None
    settings = {
        "format": "ptq4dit-quantize-parts-1",
        "model": stats.model,
        "calibration": dataclasses.asdict(stats.config),
    }
    place = folder.with_name(f"{folder.name}.parts")
    return Job(folder=place, settings=settings | dataclasses.asdict(config), units=())


@contextmanager
def _kept(
    options: argparse.Namespace, folder: Path, config: ptq4dit.QuantConfig, stats: "ptq4dit.Calibration"
) -> Iterator[str | Path | None]:
    """Where finished blocks wait: the folder that was named, else one beside the checkpoint that is gone afterwards.

    Raises:
        ValueError: if blocks of something else wait there.
    """
    job = _waiting(folder, config, stats)
    if options.state or job is None:
        yield options.state
        return
    job.claim()
    finished = "*-block-*.safetensors", "data-*.safetensors*"
    try:
        yield job.folder
    except BaseException:
        if processes().count == 1 and not any(any(job.folder.glob(pattern)) for pattern in finished):
            job.clear()
        raise
    if processes().first:
        job.clear(*finished)


def _within_budget(config: ptq4dit.QuantConfig, options: argparse.Namespace, model: str) -> ptq4dit.QuantConfig:
    """The config with weight bits chosen for ``--budget``, or as it is without one."""
    if options.budget is None:
        return config
    if options.sensitivity is None:
        raise ValueError(
            "Expected --sensitivity with --budget, got none. Make one with `python -m ptq4dit sensitivity`."
        )
    found = ptq4dit.Sensitivity.load(options.sensitivity)
    if not same_model(found.model, model):
        raise ValueError(
            f"Expected the sensitivity of the model that was calibrated, got another one's in {options.sensitivity!r}. "
            "Measure this model's."
        )
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    given = {name: value for name, value in given.items() if name != "weight_bits"}
    return ptq4dit.QuantConfig.budget(bytes=options.budget, sensitivity=found, **given)
