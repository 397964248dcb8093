"""Options that several commands share."""

import argparse

from ptq4dit.config import METHOD_NAMES, QuantConfig
from ptq4dit.reconstruction.config import ReconstructionConfig


def add_sampling(command: argparse.ArgumentParser, steps: int) -> None:
    """``--steps``, ``--guidance`` and ``--seed``."""
    command.add_argument("--steps", type=int, default=steps, help="sampling steps")
    command.add_argument("--guidance", type=float, default=4.0, help="guidance scale, 1 for none")
    command.add_argument("--seed", type=int, default=0, help="seed of all random draws")


def add_quantization(command: argparse.ArgumentParser) -> None:
    """Everything that `quantization` reads."""
    defaults = QuantConfig()
    bits, methods = "2 to 8, or 16 for float", f"recipe: {', '.join(METHOD_NAMES)}"
    command.add_argument("--calibration", default=None, help="file written by calibrate; the model's own if not given")
    command.add_argument("--weight-bits", type=int, default=defaults.weight_bits, help=bits)
    command.add_argument("--activation-bits", type=int, default=defaults.activation_bits, help=bits)
    command.add_argument("--method", choices=METHOD_NAMES, default=defaults.method, metavar="NAME", help=methods)
    command.add_argument("--csb", action=argparse.BooleanOptionalAction, default=True, help="balance channels")
    command.add_argument("--ssc", action=argparse.BooleanOptionalAction, default=True, help="weigh timesteps by rho")
    for name, default in (("weight", defaults.weight_range), ("activation", defaults.activation_range)):
        choices = ("minmax", "percentile", "mse") + (("moving",) if name == "activation" else ())
        command.add_argument(f"--{name}-range", choices=choices, default=default, help=f"how {name} ranges are chosen")
    for switch in ("modulation", "conditioning", "final-layer", "patch-embed"):
        command.add_argument(f"--{switch}", action="store_true", help=f"quantize the {switch} layers too")
    command.add_argument("--group-size", type=int, default=None, help="weight channels that share a scale; all if none")
    command.add_argument("--reconstruct", action="store_true", help="choose the rounding block by block")
    command.add_argument(
        "--reconstruction-steps", type=int, default=ReconstructionConfig().steps, help="gradient steps after that"
    )


def quantization(options: argparse.Namespace, seed: int) -> QuantConfig:
    """The config that the options of `add_quantization` describe."""
    learned = ReconstructionConfig(steps=options.reconstruction_steps, seed=seed) if options.reconstruct else None
    return QuantConfig(
        weight_bits=options.weight_bits,
        activation_bits=options.activation_bits,
        csb=options.csb,
        ssc=options.ssc,
        weight_range=options.weight_range,
        activation_range=options.activation_range,
        method=options.method,
        modulation=options.modulation,
        conditioning=options.conditioning,
        final_layer=options.final_layer,
        patch_embed=options.patch_embed,
        group_size=options.group_size,
        reconstruction=learned,
    )
