"""The command line, ``python -m ptq4dit <command>``: calibrate, quantize, sample, measure; see `COMMANDS`."""

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from ptq4dit.cli import benchmark, calibrate, evaluate, info, prepare, quantize, sample, sensitivity, speed
from ptq4dit.cli.report import require_stdout, say
from ptq4dit.parallel import processes
from ptq4dit.quiet import quiet
from ptq4dit.version import __version__

COMMANDS: dict[str, ModuleType] = {
    "info": info,
    "calibrate": calibrate,
    "sensitivity": sensitivity,
    "prepare": prepare,
    "quantize": quantize,
    "sample": sample,
    "evaluate": evaluate,
    "benchmark": benchmark,
    "speed": speed,
}
"""Name -> module with ``HELP``, ``add_options(parser)`` and ``run(options) -> Report``."""
_FORMER = {"speed": ("bench",)}
"""Former names of a command, which go on working."""
_END = (
    "The result goes to stdout, progress and errors to stderr. Exit status: 0 done, 2 something was wrong with what "
    "was asked, 130 interrupted."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input is a sentence on stderr and status 2, not a traceback."""
    options, unknown = build_parser().parse_known_args(arguments)
    if unknown:
        options.parser.error(_unknown(unknown[0], options.parser))
    if not options.verbose:
        quiet()
    try:
        require_stdout()
        report = options.module.run(options)
        if processes().first:
            report.write(options.json)
    except (ValueError, OSError) as error:
        say(f"{_who(options.command)}: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        say(f"\n{_who(options.command)}: interrupted\n")
        return 130
    return 0


def _unknown(argument: str, parser: argparse.ArgumentParser) -> str:
    """What is said of an argument that a command does not have."""
    name = argument.split("=")[0]
    near = get_close_matches(name, parser._option_string_actions, n=1)
    return f"unrecognized argument {name}" + (f"; did you mean {near[0]}?" if near else "")


def _who(command: str) -> str:
    """The command, and which process of several it is."""
    here = processes()
    return f"ptq4dit {command}" + (f" (process {here.rank} of {here.count})" if here.count > 1 else "")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="ptq4dit" if Path(sys.argv[0]).stem == "ptq4dit" else "python -m ptq4dit",
        description="Quantize diffusion transformers (PTQ4DiT).",
        epilog=_END,
    )
    parser.add_argument("--version", action="version", version=f"ptq4dit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            aliases=_FORMER.get(name, ()),
            help=module.HELP,
            description=module.HELP,
            epilog=_END,
            formatter_class=_Formatter,
        )
        command.set_defaults(module=module, parser=command)
        module.add_options(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        command.add_argument("-v", "--verbose", action="store_true", help="show what other packages log, too")
    return parser


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Names a default where there is one to name."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default is None or action.default is False
        return action.help if plain else super()._get_help_string(action)
