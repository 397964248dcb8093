"""``evaluate``: compare a quantized model's pictures with the float model's."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import ptq4dit
from ptq4dit.cli.judge import add_judge, open_judge
from ptq4dit.cli.options import (
    add_dry_run,
    add_prompts,
    add_quantization,
    add_sampling,
    given_prompts,
    quantization,
)
from ptq4dit.cli.progress import Bar, Parts, price, told
from ptq4dit.cli.report import Report, lines
from ptq4dit.cli.source import (
    add_model,
    demo_path,
    model_source,
    open_calibration,
    open_float,
    open_model,
)
from ptq4dit.storage.whole_file import require_file

if TYPE_CHECKING:
    from ptq4dit import Dit

HELP = "Compare a quantized model's pictures with the float model's, drawn from the same noise."


def add_options(command: argparse.ArgumentParser) -> None:
    """What can be asked."""
    add_model(command, "a folder that quantize wrote; or a float model (the demo if none), which is quantized first")
    command.add_argument("--reference", default=None, help="the float model; what the checkpoint was made from if none")
    add_judge(command)
    command.add_argument(
        "--pictures", "--images", type=int, default=20, help="pictures compared, classes or prompts in turn"
    )
    command.add_argument("--parts", default=None, help="folder where finished parts wait, to go on there if stopped")
    text = "also write the quantized model's pictures as ADM's evaluator takes them: arr_0, uint8, in their order"
    command.add_argument("--npz", default=None, metavar="FILE", help=text)
    add_prompts(command)
    add_quantization(command)
    add_sampling(command, 25)
    add_dry_run(command)


def run(options: argparse.Namespace) -> Report:
    """Draw both sets, by all processes, and measure."""
    from ptq4dit.benchmark.config import BenchmarkConfig
    from ptq4dit.benchmark.evaluation import evaluate_in_parts

    if options.npz is not None:
        require_file(Path(options.npz))
    config = BenchmarkConfig(
        seeds=(options.seed,),
        pictures=options.pictures,
        steps=options.steps,
        guidance_scale=options.guidance,
        prompts=given_prompts(options),
    )
    model, dit = _models(options)
    judged = open_judge(options, dit)
    numbers, taken = evaluate_in_parts(
        model,
        dit,
        config,
        judged,
        folder=None if options.parts is None else Path(options.parts),
        npz=None if options.npz is None else Path(options.npz),
        only_first=options.dry_run,
        show=Parts().job,
    )
    if options.dry_run:
        cost = price(taken)
        return Report(content=cost, text=told(cost))
    about = ptq4dit.describe(model)
    shown = {name: about[name] for name in ("source", "label", "backend")}
    shown |= {name: round(value, 4) for name, value in numbers.items() if isinstance(value, float)}
    return Report(content=about | {"metrics": numbers}, text=lines(shown))


def _models(options: argparse.Namespace) -> tuple["Dit", "Dit"]:
    """The quantized model and its float one.

    Raises:
        ValueError: if they do not belong together.
    """
    source = model_source(options)
    model = open_model(source, options.device)
    record = getattr(model.transformer, "ptq4dit_record", None)
    if record is None:
        stats, config = open_calibration(options.calibration, source), quantization(options, options.seed)
        from ptq4dit.sharing import together

        with together():
            return ptq4dit.quantize(model, stats, config, progress=Bar("reconstruction step")), model
    from ptq4dit.model.fingerprint import is_fingerprint_of

    dit = open_float(options.reference or _known(model.source, source), options.device)
    if not is_fingerprint_of(record.model, dit.transformer):
        raise ValueError(
            f"Expected the float model that {source!r} was made from, got {dit.source!r}, which has other weights. "
            "Name it with --reference."
        )
    return model, dit


def _known(source: str, checkpoint: str) -> str:
    """Where the checkpoint says it comes from: as it says, beside it, or the demo, which is found from anywhere.

    A checkpoint keeps no folders of the machine that made it, only the name of what it was made from.
    """
    if Path(source).exists():
        return source
    if (beside := Path(checkpoint).resolve().parent / source).exists():
        return str(beside)
    return demo_path() if Path(source).parts[-2:] == ("assets", "demo") else source
