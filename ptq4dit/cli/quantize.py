"""``quantize``: make a quantized checkpoint from a float model."""

import argparse
import dataclasses
import time
from pathlib import Path

import ptq4dit
from ptq4dit.cli.options import add_quantization, quantization
from ptq4dit.cli.report import Report, lines, show_reconstruction
from ptq4dit.cli.source import add_model, model_source, open_calibration, open_float, short_name
from ptq4dit.parallel import processes
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


def run(options: argparse.Namespace) -> Report:
    """Quantize and save."""
    from ptq4dit.checkpoint.manifest import KIND
    from ptq4dit.checkpoint.packed import packed_bytes

    config, source = quantization(options, options.seed), model_source(options)
    stats = open_calibration(options.calibration, source)
    config = _within_budget(config, options, stats.model)
    name = f"{short_name(source)}-{config.label.lower()}"
    folder = Path(options.out or (name if config.method == "ptq4dit" else f"{name}-{config.method}"))
    require_writable(folder, KIND)
    if options.state:
        require_place(Path(options.state))
    dit = open_float(source, options.device)
    weights = sum(parameter.numel() for parameter in dit.transformer.parameters())
    require_room(folder, int(_LEAST * weights * min(config.weight_bits, 8) / 8))
    here, begun = processes(), time.monotonic()
    if not here.first:  # blocks follow each other: one process learns, and the others wait for it
        here.wait()
        return Report(content={}, text="")
    model = ptq4dit.quantize(dit, stats, config, progress=show_reconstruction, folder=options.state)
    seconds = time.monotonic() - begun
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
