"""The command line: ``python -m ptq4dit info | calibrate | quantize | sample``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ptq4dit
from ptq4dit.config import CalibrationConfig, QuantConfig

if TYPE_CHECKING:
    from ptq4dit import Dit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input is a message on stderr and status 2, not a traceback."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except ValueError as error:
        sys.stderr.write(f"ptq4dit {options.command}: {error}\n")
        return 2
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser; every command's function is in ``run``."""
    parser = argparse.ArgumentParser(prog="python -m ptq4dit", description="Quantize diffusion transformers (PTQ4DiT).")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, add_options in (
        ("info", info, None),
        ("calibrate", calibrate, _calibrate_options),
        ("quantize", quantize, _quantize_options),
        ("sample", sample, _sample_options),
    ):
        command = commands.add_parser(
            name, help=run.__doc__, description=run.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.add_argument("model", help="a DiTPipeline folder, a hub id, or a folder written by quantize")
        if add_options is not None:
            add_options(command)
        command.set_defaults(run=run)
    return parser


def info(options: argparse.Namespace) -> None:
    """Print what a model is, as JSON."""
    model = open_model(options.model)
    text = ptq4dit.describe(model) | {
        "classes": dict(model.id2label),
        "latents": model.latent_shape,
        "blocks": len(model.transformer.transformer_blocks),
        "tensor_bytes": sum(t.numel() * t.element_size() for t in model.transformer.state_dict().values()),
    }
    sys.stdout.write(json.dumps(text, indent=2) + "\n")


def calibrate(options: argparse.Namespace) -> None:
    """Observe a float model while it samples, and write its calibration."""
    config = CalibrationConfig(
        timesteps=options.timesteps,
        samples_per_timestep=options.samples,
        guidance_scale=options.guidance,
        seed=options.seed,
        steps=options.steps,
        first_sample=options.first_sample,
    )
    ptq4dit.calibrate(ptq4dit.load(options.model), config, progress=_show_progress).save(options.out)


def quantize(options: argparse.Namespace) -> None:
    """Quantize a float model with its calibration, and write a checkpoint."""
    config = QuantConfig(
        weight_bits=options.weight_bits,
        activation_bits=options.activation_bits,
        csb=options.csb,
        ssc=options.ssc,
        weight_range=options.weight_range,
        activation_range=options.activation_range,
    )
    stats = ptq4dit.Calibration.load(options.calibration)
    ptq4dit.save_quantized(ptq4dit.quantize(ptq4dit.load(options.model), stats, config), options.out)


def sample(options: argparse.Namespace) -> None:
    """Draw pictures, side by side in one PNG file."""
    from PIL import Image

    model = open_model(options.model)
    last: Any = None
    for last in ptq4dit.denoise(model, options.classes, options.steps, options.guidance, options.seed, options.sampler):
        _show_progress(last.step, options.steps)
    row = ptq4dit.decode(model, last.latents).permute(2, 0, 3, 1).flatten(1, 2)
    Image.fromarray((row * 255).round().byte().cpu().numpy()).save(options.out, format="PNG")


def open_model(source: str) -> "Dit":
    """A quantized checkpoint if the folder is one, else a float model."""
    if (Path(source) / "manifest.json").is_file():
        return ptq4dit.load_quantized(source)
    return ptq4dit.load(source)


def _calibrate_options(command: argparse.ArgumentParser) -> None:
    defaults = CalibrationConfig()
    command.add_argument("out", help="file to write, .safetensors")
    command.add_argument("--timesteps", type=int, default=defaults.timesteps, help="timesteps observed")
    command.add_argument("--samples", type=int, default=defaults.samples_per_timestep, help="images sampled")
    command.add_argument("--first-sample", type=int, default=0, help="index of the first image")
    _sampling_options(command, defaults.steps)


def _quantize_options(command: argparse.ArgumentParser) -> None:
    defaults = QuantConfig()
    command.add_argument("calibration", help="file written by calibrate")
    command.add_argument("out", help="folder to write")
    command.add_argument("--weight-bits", type=int, default=defaults.weight_bits, help="2 to 8, or 16 for float")
    command.add_argument(
        "--activation-bits", type=int, default=defaults.activation_bits, help="2 to 8, or 16 for float"
    )
    command.add_argument("--csb", action=argparse.BooleanOptionalAction, default=True, help="balance channels")
    command.add_argument("--ssc", action=argparse.BooleanOptionalAction, default=True, help="weigh timesteps by rho")
    for name, default in (("weight", defaults.weight_range), ("activation", defaults.activation_range)):
        command.add_argument(f"--{name}-range", choices=("minmax", "mse"), default=default, help=f"{name} ranges")


def _sample_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("out", help="PNG file to write")
    command.add_argument("--classes", type=int, nargs="+", required=True, help="one class index per picture")
    command.add_argument("--sampler", default=None, help="ddim, ddpm or dpm++; the model's own if not given")
    _sampling_options(command, 50)


def _sampling_options(command: argparse.ArgumentParser, steps: int) -> None:
    command.add_argument("--steps", type=int, default=steps, help="sampling steps")
    command.add_argument("--guidance", type=float, default=4.0, help="guidance scale, 1 for none")
    command.add_argument("--seed", type=int, default=0, help="seed of all random draws")


def _show_progress(done: int, total: int) -> None:
    sys.stderr.write(f"\rstep {done} of {total}" + ("\n" if done == total else ""))
