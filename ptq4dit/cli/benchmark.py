"""``benchmark``: every method on the same noise."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptq4dit.benchmark.config import BenchmarkConfig
from ptq4dit.cli.judge import add_judge, open_judge
from ptq4dit.cli.options import add_dry_run, add_prompts, given_prompts
from ptq4dit.cli.progress import Bar, FirstUnit, PricedError, priced, told
from ptq4dit.cli.report import Report, say
from ptq4dit.cli.source import add_model, model_source, open_calibration, open_float
from ptq4dit.config.methods import method_names
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.parallel import processes
from ptq4dit.storage.whole_file import require_file, require_place

_BYTES = 3000
"""Of a row in the file, about."""
HELP = "Measure every method from the same noise; goes on where it stopped. Simulated quantization."


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    add_model(command, "a float model; the demo if none")
    command.add_argument("--out", default=None, help="JSON file; results/benchmark.json of the model if not given")
    command.add_argument("--calibration", default=None, help="file written by calibrate; the model's own if not given")
    command.add_argument("--methods", nargs="+", default=list(method_names()), help="names in the registry")
    command.add_argument("--bits", nargs="+", default=["W4A8", "W8A8", "W4A6", "W3A8", "W6A8"], help="such as W4A8")
    command.add_argument("--strengths", type=int, nargs="+", default=[1, 8], help="settings of the salience dial")
    command.add_argument("--seeds", type=int, nargs="+", default=[2000, 2001, 2002], help="one set of pictures each")
    command.add_argument("--pictures", type=int, default=BenchmarkConfig().pictures, help="in a set")
    command.add_argument("--factorial", action=argparse.BooleanOptionalAction, default=True, help="PTQ4DiT's parts too")
    command.add_argument("--reconstruction-steps", type=int, default=ReconstructionConfig().steps, help="a block")
    text = "measure also what each method adds to a forward pass on integers; leave the machine alone meanwhile"
    command.add_argument("--costs", action="store_true", help=text)
    add_judge(command)
    add_prompts(command)
    command.add_argument("--steps", type=int, default=25, help="sampling steps")
    command.add_argument("--guidance", type=float, default=4.0, help="guidance scale, 1 for none")
    add_dry_run(command)


def run(options: argparse.Namespace) -> Report:
    """Measure what is missing in the file; the report holds all of it."""
    import torch

    from ptq4dit.benchmark.cost import CostMeter
    from ptq4dit.benchmark.run import add_costs, benchmark, command_as_typed
    from ptq4dit.storage.provenance import made_by

    bits, source = tuple(parse_bits(text) for text in options.bits), model_source(options)
    config = BenchmarkConfig(
        methods=tuple(options.methods),
        bits=bits,
        factorial_bits=bits if options.factorial else (),
        strengths=tuple(options.strengths),
        seeds=tuple(options.seeds),
        pictures=options.pictures,
        steps=options.steps,
        guidance_scale=options.guidance,
        prompts=given_prompts(options),
        reconstruction=ReconstructionConfig(steps=options.reconstruction_steps, images=16, timesteps=10),
    )
    stats = open_calibration(options.calibration, source)
    results = Path(source) / "results" / "benchmark.json" if Path(source).is_dir() else Path("benchmark.json")
    out = Path(options.out or results)
    require_place(out.parent, out.name)
    require_file(out)
    dit = open_float(source, options.device)
    judged = open_judge(options, dit)
    made = made_by(command_as_typed(), torch.get_num_threads())
    here = processes()
    if options.dry_run:
        return _price(lambda progress: benchmark(dit, stats, config, out, made, judged=judged, progress=progress))
    rows, bar = _rows(Bar("row")), _rows(Bar("cost"))
    if here.count > 1:  # the rows are shared out, and meet in the file
        benchmark(dit, stats, config, out, made, judged=judged, progress=rows, part=here.part)
        here.wait()
    content = benchmark(dit, stats, config, out, made, judged=judged, progress=rows)
    if options.costs:
        content = add_costs(out, CostMeter(dit, stats).cost, config, made, progress=bar)
    return Report(content=content, text=f"All of it is in {out}.\n" + _tables(content, config.strengths, options.bits))


def _rows(bar: Bar) -> Callable[[str, int, int], None]:
    """Progress that names what is measured next."""

    def show(key: str, done: int, total: int) -> None:
        bar(done, total)
        if processes().first and done < total:
            say(f"{done} of {total}: {key}\n")

    return show


def _price(measure: Callable[[Callable[[str, int, int], None]], object]) -> Report:
    """What all rows take, by the first that is missing, which is measured and kept; methods that learn take longer."""
    unit, cost = FirstUnit(), priced(0, 0, 0.0, disk=_BYTES)
    if processes().first:
        try:
            measure(lambda _key, done, total: unit(done, total))
        except PricedError:
            left = unit.total - unit.done
            cost = priced(unit.total, unit.done, unit.each * left / processes().count, disk=_BYTES * unit.total)
    processes().wait()
    return Report(content=cost, text=told(cost))


def parse_bits(text: str) -> tuple[int, int]:
    """``"W4A8"`` -> (4, 8).

    Raises:
        ValueError: for anything else.
    """
    match = re.fullmatch(r"W(\d+)A(\d+)", text)
    if match is None:
        raise ValueError(f"Expected bits such as W4A8, got {text!r}.")
    return int(match[1]), int(match[2])


def _tables(content: dict[str, Any], strengths: tuple[int, ...], labels: list[str]) -> str:
    from ptq4dit.benchmark.table import markdown

    parts = []
    for strength in strengths:
        for label in labels:
            for factorial in (False, True):
                if table := markdown(content, strength, label, factorial=factorial):
                    parts.append(f"\n{label}, salience x {strength}, simulated\n\n{table}")
    return "".join(parts)
