"""Options that several commands share."""

import argparse
import dataclasses
from typing import Any, get_args

from ptq4dit.config.methods import method_names
from ptq4dit.config.quantization import ActivationGranularity, Backend, Override, QuantConfig, TimestepSalience
from ptq4dit.config.reconstruction import ReconstructionConfig

_ATTENTION = {"attention": "q, k and v", "softmax": "the softmax's output"}


def add_sampling(command: argparse.ArgumentParser, steps: int | None, guidance: float | None = 4.0) -> None:
    """``--steps``, ``--guidance`` and ``--seed``; None leaves them to the model."""
    own = "the model's own if not given"
    command.add_argument("--steps", type=int, default=steps, help="sampling steps" + ("" if steps else f"; {own}"))
    scale = "guidance scale, 1 for none" + ("" if guidance else f"; {own}")
    command.add_argument("--guidance", type=float, default=guidance, help=scale)
    command.add_argument("--seed", type=int, default=0, help="seed of all random draws")


def add_prompts(command: argparse.ArgumentParser) -> None:
    """``--prompts``, for text-conditioned models."""
    command.add_argument("--prompts", default=None, metavar="FILE", help="text file with a prompt a line")


def add_dry_run(command: argparse.ArgumentParser) -> None:
    """``--dry-run``, for work of many parts."""
    text = "do the first part only, and say what time, memory and disk the whole takes; it is kept"
    command.add_argument("--dry-run", action="store_true", help=text)


def given_prompts(options: argparse.Namespace) -> tuple[str, ...]:
    """The prompts of the file that was named; none without one."""
    from ptq4dit.sampling.prompts import read_prompts

    return tuple(read_prompts(options.prompts)) if options.prompts else ()


def add_quantization(command: argparse.ArgumentParser) -> None:
    """Everything that `quantization` reads."""
    defaults = QuantConfig()
    command.usage = "%(prog)s [options] [model]"
    bits, methods = "2 to 8, or 16 for float", f"recipe: {', '.join(method_names())}"
    command.add_argument("--calibration", default=None, help="file written by calibrate; the model's own if not given")
    command.add_argument("--weight-bits", type=int, default=defaults.weight_bits, help=bits)
    command.add_argument("--activation-bits", type=int, default=defaults.activation_bits, help=bits)
    command.add_argument("--method", choices=method_names(), default=defaults.method, metavar="NAME", help=methods)
    command.add_argument("--csb", action=argparse.BooleanOptionalAction, default=True, help="balance channels")
    command.add_argument("--ssc", action=argparse.BooleanOptionalAction, default=True, help="weigh timesteps by rho")
    text = "balance, as it is rounded, what nothing in front can: fc2 of the DiT (others: on unless --no-...)"
    command.add_argument(
        "--balance-inputs", "--balance-fc2", action=argparse.BooleanOptionalAction, default=None, help=text
    )
    for name, default in (("weight", defaults.weight_range), ("activation", defaults.activation_range)):
        choices = ("minmax", "percentile", "mse") + (("moving",) if name == "activation" else ())
        command.add_argument(f"--{name}-range", choices=choices, default=default, help=f"how {name} ranges are chosen")
    for switch in ("modulation", "conditioning", "final-layer", "patch-embed"):
        command.add_argument(f"--{switch}", action="store_true", help=f"quantize the {switch} layers too")
    command.add_argument("--group-size", type=int, default=None, help="weight channels that share a scale; all if none")
    choices = get_args(ActivationGranularity)
    command.add_argument(
        "--activation-granularity", choices=choices, default=choices[0], help="activation values that share a scale"
    )
    text = "groups of timesteps with a scale each, with per_timestep_group"
    command.add_argument("--timestep-groups", type=int, default=defaults.timestep_groups, help=text)
    text = "channels of a token that share a scale, with per_token; all if none"
    command.add_argument("--activation-group-size", type=int, default=None, help=text)
    text = "zero in the middle of a weight's range; on at 8 bits on the integer backend"
    command.add_argument("--weight-symmetric", action=argparse.BooleanOptionalAction, default=None, help=text)
    text = "zero in the middle of an input's range; on for groups on the integer backend"
    command.add_argument("--activation-symmetric", action=argparse.BooleanOptionalAction, default=None, help=text)
    command.add_argument(
        "--rotation", action="store_true", help="a Hadamard rotation in front of every block's linears"
    )
    command.add_argument(
        "--rank", type=int, default=defaults.rank, help="of a float branch beside every block's linears"
    )
    text = "other settings for the layers that a pattern matches, such as '*.fc2:weight_bits=8'; repeatable, later win"
    command.add_argument("--override", action="append", type=_override, metavar="PATTERN:NAME=VALUE", help=text)
    for part in ("attention", "softmax"):
        command.add_argument(f"--{part}-bits", type=int, default=16, help=f"of {_ATTENTION[part]}, 16 for float")
    command.add_argument("--timestep-salience", choices=get_args(TimestepSalience), default="per_timestep", help="SSC")
    command.add_argument(
        "--option", action="append", type=_option, metavar="NAME=NUMBER", help="of the method; repeatable"
    )
    command.add_argument("--backend", choices=get_args(Backend), default=defaults.backend, help="what runs the model")
    command.add_argument("--reconstruct", action="store_true", help="choose the rounding block by block")
    command.add_argument("--reconstruction-steps", type=int, default=None, help="gradient steps of it")
    command.add_argument("--adaround", action="store_true", help="the paper's 20,000 steps a block, from the nearest")


def _option(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, int(value) if value.isdigit() else float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a name and a number such as alpha=0.4, got {text!r}") from error


def _value(text: str) -> bool | int:
    return text == "true" if text in ("true", "false") else int(text)


def _override(text: str) -> Override:
    pattern, _, settings = text.partition(":")
    try:
        named = dict(setting.split("=") for setting in settings.split(","))
        given: dict[str, Any] = {name.strip(): _value(value) for name, value in named.items()}
        return Override(pattern=pattern, **given)
    except (TypeError, ValueError) as error:
        known = ", ".join(field.name for field in dataclasses.fields(Override)[1:])
        raise argparse.ArgumentTypeError(
            f"expected a pattern and settings ({known}) such as '*.fc2:weight_bits=8,group_size=64', got {text!r}"
        ) from error


def quantization(options: argparse.Namespace, seed: int) -> QuantConfig:
    """The config that the options of `add_quantization` describe.

    Raises:
        ValueError: for steps of a reconstruction that is not asked for.
    """
    steps = {} if options.reconstruction_steps is None else {"steps": options.reconstruction_steps}
    if steps and not (options.reconstruct or options.adaround):
        raise ValueError("Expected --reconstruct or --adaround with --reconstruction-steps, got neither.")
    learned = None
    if options.adaround:
        learned = ReconstructionConfig.paper(seed=seed, **steps)
    elif options.reconstruct:
        learned = ReconstructionConfig(seed=seed, **steps)
    return QuantConfig(
        weight_bits=options.weight_bits,
        activation_bits=options.activation_bits,
        csb=options.csb,
        ssc=options.ssc,
        balance_inputs=options.balance_inputs,
        weight_range=options.weight_range,
        activation_range=options.activation_range,
        method=options.method,
        modulation=options.modulation,
        conditioning=options.conditioning,
        final_layer=options.final_layer,
        patch_embed=options.patch_embed,
        group_size=options.group_size,
        activation_granularity=options.activation_granularity,
        timestep_groups=options.timestep_groups,
        activation_group_size=options.activation_group_size,
        weight_symmetric=options.weight_symmetric,
        activation_symmetric=options.activation_symmetric,
        rotation=options.rotation,
        rank=options.rank,
        overrides=tuple(options.override or ()),
        attention_bits=options.attention_bits,
        softmax_bits=options.softmax_bits,
        timestep_salience=options.timestep_salience,
        options=tuple(options.option or ()),
        backend=options.backend,
        reconstruction=learned,
    )
