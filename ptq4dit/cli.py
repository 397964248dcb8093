"""The command line: ``python -m ptq4dit info | calibrate | quantize | sample | evaluate | benchmark``."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ptq4dit
from ptq4dit.config import METHOD_NAMES, CalibrationConfig, QuantConfig
from ptq4dit.reconstruction.config import ReconstructionConfig

if TYPE_CHECKING:
    from ptq4dit import Dit


DEMO = "assets/demo"


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
        ("evaluate", evaluate, _evaluate_options),
        ("benchmark", benchmark, _benchmark_options),
    ):
        command = commands.add_parser(
            name, help=run.__doc__, description=run.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.add_argument(
            "model",
            nargs="?" if name in ("info", "benchmark") else None,
            default=DEMO,
            help="a DiTPipeline folder, a hub id, or a folder written by quantize",
        )
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
        method=options.method,
        modulation=options.modulation,
        conditioning=options.conditioning,
        reconstruction=ReconstructionConfig(steps=options.steps) if options.reconstruct else None,
    )
    stats = ptq4dit.Calibration.load(options.calibration)
    model = ptq4dit.quantize(ptq4dit.load(options.model), stats, config, progress=_show_work)
    ptq4dit.save_quantized(model, options.out)


def sample(options: argparse.Namespace) -> None:
    """Draw pictures, side by side in one PNG file."""
    from PIL import Image

    model = open_model(options.model)
    last: Any = None
    for last in ptq4dit.denoise(model, options.classes, options.steps, options.guidance, options.seed, options.sampler):
        _show_progress(last.step, options.steps)
    row = ptq4dit.decode(model, last.latents).permute(2, 0, 3, 1).flatten(1, 2)
    Image.fromarray((row * 255).round().byte().cpu().numpy()).save(options.out, format="PNG")


def evaluate(options: argparse.Namespace) -> None:
    """Compare a quantized model's pictures with the float model's, from the same noise; prints JSON."""
    from ptq4dit.benchmark.config import BenchmarkConfig
    from ptq4dit.benchmark.measure import Judge, compare, draw

    config = BenchmarkConfig(
        seeds=(options.seed,), pictures=options.pictures, steps=options.steps, guidance_scale=options.guidance
    )
    model, dit = open_model(options.model), ptq4dit.load(options.reference)
    numbers = compare(
        draw(model, config, options.seed), draw(dit, config, options.seed), Judge.load(Path(options.reference))
    )
    sys.stdout.write(json.dumps(ptq4dit.describe(model) | {"metrics": numbers}, indent=2) + "\n")


def benchmark(options: argparse.Namespace) -> None:
    """Measure every method from the same noise; goes on where it stopped. Simulated quantization."""
    from ptq4dit.benchmark.config import BenchmarkConfig
    from ptq4dit.benchmark.measure import Judge
    from ptq4dit.benchmark.run import benchmark as run
    from ptq4dit.benchmark.run import provenance
    from ptq4dit.benchmark.table import markdown

    bits = tuple(_bits(text) for text in options.bits)
    config = BenchmarkConfig(
        methods=tuple(options.methods),
        bits=bits,
        factorial_bits=bits if options.factorial else (),
        strengths=tuple(options.strengths),
        seeds=tuple(options.seeds),
        pictures=options.pictures,
        steps=options.steps,
        guidance_scale=options.guidance,
        reconstruction=ReconstructionConfig(steps=options.reconstruction_steps, images=16, timesteps=10),
    )
    stats = ptq4dit.Calibration.load(options.calibration or Path(options.model) / "calibration.safetensors")
    out = Path(options.out or Path(options.model) / "results" / "benchmark.json")
    judged = Judge.load(Path(options.model))
    dit = ptq4dit.load(options.model)
    content = run(dit, stats, config, out, provenance(), judged=judged, progress=_show_job)
    if options.json:
        sys.stdout.write(json.dumps(content, indent=1) + "\n")
        return
    for strength in config.strengths:
        for label in options.bits:
            for factorial in (False, True):
                if table := markdown(content, strength, label, factorial=factorial):
                    sys.stdout.write(f"\n{label}, salience x {strength}, simulated\n\n{table}")


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
    command.add_argument("--method", choices=METHOD_NAMES, default=defaults.method, help="recipe of ptq4dit.methods")
    command.add_argument("--reconstruct", action="store_true", help="choose the rounding block by block")
    command.add_argument("--steps", type=int, default=ReconstructionConfig().steps, help="of reconstruction, a block")
    for switch in ("modulation", "conditioning"):
        command.add_argument(f"--{switch}", action="store_true", help=f"quantize the {switch} layers too")
    choices = ("minmax", "percentile", "mse")
    for name, default in (("weight", defaults.weight_range), ("activation", defaults.activation_range)):
        command.add_argument(f"--{name}-range", choices=choices, default=default, help=f"{name} ranges")


def _evaluate_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--reference", default=DEMO, help="the float model that it was made from")
    command.add_argument("--pictures", type=int, default=20, help="pictures compared, classes in turn")
    _sampling_options(command, 25)


def _benchmark_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--methods", nargs="+", default=list(METHOD_NAMES), help="names in the registry")
    command.add_argument("--bits", nargs="+", default=["W4A8", "W8A8", "W4A6", "W3A8", "W6A8"], help="such as W4A8")
    command.add_argument("--strengths", type=int, nargs="+", default=[1, 8], help="settings of the salience dial")
    command.add_argument("--seeds", type=int, nargs="+", default=[2000, 2001, 2002], help="one set of pictures each")
    command.add_argument("--pictures", type=int, default=20, help="in a set")
    command.add_argument("--factorial", action=argparse.BooleanOptionalAction, default=True, help="PTQ4DiT's parts too")
    command.add_argument("--reconstruction-steps", type=int, default=ReconstructionConfig().steps, help="a block")
    command.add_argument("--calibration", default=None, help="file written by calibrate; the model's own by default")
    command.add_argument("--out", default=None, help="JSON file; the model's results/benchmark.json by default")
    command.add_argument("--json", action="store_true", help="print everything as JSON instead of tables")
    command.add_argument("--steps", type=int, default=25, help="sampling steps")
    command.add_argument("--guidance", type=float, default=4.0, help="guidance scale, 1 for none")


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


def _show_work(done: int, total: int, seconds_left: float) -> None:
    left = "" if seconds_left == float("inf") else f", about {seconds_left:.0f} s left"
    sys.stderr.write(f"\rreconstruction: {done} of {total}{left}   " + ("\n" if done == total else ""))


def _show_job(key: str, done: int, total: int) -> None:
    sys.stderr.write(f"{done} of {total}: {key}\n")


def _bits(text: str) -> tuple[int, int]:
    """``"W4A8"`` -> (4, 8)."""
    match = re.fullmatch(r"W(\d+)A(\d+)", text)
    if match is None:
        raise ValueError(f"Expected bits such as W4A8, got {text!r}.")
    return int(match[1]), int(match[2])
