"""``evaluate``: compare a quantized model's pictures with the float model's."""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from ptq4dit.cli.report import Report, lines, price, show_parts, show_reconstruction
from ptq4dit.cli.source import (
    add_model,
    demo_path,
    model_source,
    open_calibration,
    open_float,
    open_model,
)
from ptq4dit.parallel import Job, Taken, processes, ranges
from ptq4dit.storage.whole_file import require_file, whole_file

if TYPE_CHECKING:
    from ptq4dit import Dit
    from ptq4dit.benchmark.config import BenchmarkConfig
    from ptq4dit.benchmark.measure import Judge

HELP = "Compare a quantized model's pictures with the float model's, drawn from the same noise."
_FORMAT = "ptq4dit-evaluation-part-1"


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
    from ptq4dit.benchmark.measure import summary

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
    job, taken = _drawn(options, config, model, dit, judged)
    if options.dry_run:
        cost = price(taken.progress, processes().count)
        return Report(content=cost, text=lines(cost))
    about = ptq4dit.describe(model)
    if not processes().first:
        return Report(content=about, text="")
    numbers = summary([_read(file, pictures=False) for file in taken.files], judged)
    if options.npz is not None:
        write_npz(Path(options.npz), taken.files)
    job.clear()
    shown = {name: about[name] for name in ("source", "label", "backend")}
    shown |= {name: round(value, 4) for name, value in numbers.items() if isinstance(value, float)}
    return Report(content=about | {"metrics": numbers}, text=lines(shown))


def write_npz(target: Path, files: Sequence[Path]) -> None:
    """All parts' pictures in one array ``arr_0`` ``(n, height, width, 3)`` of an npz file, one part in memory."""
    import zipfile

    import numpy as np

    count = sum(len(_read(file, pictures=True)["pictures"]) for file in files)
    shape = _read(files[0], pictures=True)["pictures"].shape[1:]
    with (
        whole_file(target) as new,
        zipfile.ZipFile(new, "w") as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as array,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(array, header)
        for file in files:
            array.write(_read(file, pictures=True)["pictures"].numpy().tobytes())


def _drawn(
    options: argparse.Namespace, config: "BenchmarkConfig", model: "Dit", dit: "Dit", judged: "Judge | None"
) -> tuple[Job, Taken]:
    """Both models' pictures in parts, each part measured where it is drawn."""
    from ptq4dit.benchmark.measure import BATCH
    from ptq4dit.model.fingerprint import fingerprint

    here, parts = processes(), ranges(config.pictures, BATCH)
    record = model.transformer.ptq4dit_record.to_dict()
    settings = {"format": _FORMAT, "float_model": fingerprint(dit.transformer), "quantized": record}
    settings |= {"evaluation": dataclasses.asdict(config), "npz": options.npz is not None}
    settings |= {"judge": None if judged is None else type(judged.classifier).__name__}
    folder = options.parts or here.agree(tempfile.mkdtemp(prefix="ptq4dit-evaluation-") if here.first else None)
    job = Job(folder=Path(folder), settings=settings, units=list(parts))
    make = _maker(config, model, dit, judged, parts, pictures=options.npz is not None)
    return job, job.run(make, show_parts, only_first=options.dry_run)


def _maker(
    config: "BenchmarkConfig",
    model: "Dit",
    dit: "Dit",
    judged: "Judge | None",
    parts: dict[str, range],
    *,
    pictures: bool,
) -> Callable[[str, Path], None]:
    """What draws and measures a part, and keeps its pictures as bytes where they are asked for."""
    from ptq4dit.benchmark.measure import draw_images, seen
    from ptq4dit.storage.tensors import write_tensors

    def make(unit: str, file: Path) -> None:
        drawn, reference = (draw_images(one, config, config.seeds[0], parts[unit]) for one in (model, dit))
        rows = seen(drawn, reference, None if judged is None else judged.classifier)
        if pictures:
            rows["pictures"] = (drawn.pictures * 255).round().byte().permute(0, 2, 3, 1)
        write_tensors(file, rows, {}, _FORMAT)

    return make


def _read(file: Path, *, pictures: bool) -> dict[str, Any]:
    """A part, with its pictures alone or without."""
    from ptq4dit.storage.tensors import read_tensors

    tensors, _ = read_tensors(file, _FORMAT, "part of an evaluation")
    return {name: value for name, value in tensors.items() if (name == "pictures") == pictures}


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
        return ptq4dit.quantize(model, stats, config, progress=show_reconstruction), model
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
