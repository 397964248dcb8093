"""``quantize``: make a quantized checkpoint from a float model."""

import argparse
import time
from pathlib import Path

import ptq4dit
from ptq4dit.cli.options import add_quantization, quantization
from ptq4dit.cli.report import Report, lines, show_reconstruction
from ptq4dit.cli.source import add_model, model_source, open_calibration, open_float, short_name
from ptq4dit.storage.disk import require_room
from ptq4dit.storage.folder import require_writable
from ptq4dit.storage.whole_file import require_place

_LEAST = 0.7
"""What a checkpoint takes at least, as a share of all weights at the bits asked for: copies are stored once."""
HELP = "Quantize a float model with its calibration, and write a checkpoint that loads without either."


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    add_model(command, "a DiTPipeline folder, a hub id or a .pt file; the demo if none")
    command.add_argument("--out", default=None, help="folder to write; such as demo-w8a8 here if not given")
    add_quantization(command)
    command.add_argument("--state", default=None, help="folder where reconstruction keeps its state, to go on there")
    command.add_argument("--seed", type=int, default=0, help="seed of reconstruction")


def run(options: argparse.Namespace) -> Report:
    """Quantize and save."""
    from ptq4dit.checkpoint.manifest import KIND
    from ptq4dit.checkpoint.packed import packed_bytes

    config, source = quantization(options, options.seed), model_source(options)
    name = f"{short_name(source)}-{config.label.lower()}"
    folder = Path(options.out or (name if config.method == "ptq4dit" else f"{name}-{config.method}"))
    require_writable(folder, KIND)
    if options.state:
        require_place(Path(options.state))
    stats = open_calibration(options.calibration, source)
    dit = open_float(source, options.device)
    weights = sum(parameter.numel() for parameter in dit.transformer.parameters())
    require_room(folder, int(_LEAST * weights * min(config.weight_bits, 8) / 8))
    begun = time.monotonic()
    model = ptq4dit.quantize(dit, stats, config, progress=show_reconstruction, folder=options.state)
    seconds = time.monotonic() - begun
    ptq4dit.save_quantized(model, folder)
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
