"""Two models' pictures in parts, each measured where it is drawn: shared by processes, gone on with where stopped."""

import dataclasses
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from ptq4dit.benchmark.config import BenchmarkConfig
from ptq4dit.benchmark.measure import BATCH, Judge, draw_images, seen, summary
from ptq4dit.model.bundle import Dit
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.parallel import Job, Progress, processes, ranges
from ptq4dit.storage.tensors import read_tensors, write_tensors
from ptq4dit.storage.whole_file import whole_file

_FORMAT = "ptq4dit-evaluation-part-1"


def evaluate_in_parts(
    model: Dit,
    reference: Dit,
    config: BenchmarkConfig,
    judged: Judge | None,
    *,
    folder: Path | None = None,
    npz: Path | None = None,
    only_first: bool = False,
    show: Callable[[Progress], None] | None = None,
) -> tuple[dict[str, float | list[float]], Progress]:
    """Compare a quantized model's pictures with the float model's, by all processes.

    Args:
        model: the quantized bundle, the same in all processes.
        reference: its float one.
        config: pictures, sampling, and the one seed.
        judged: see `summary`; only the first process needs the real pictures' features.
        folder: where finished parts wait; a temporary one if None, which is gone afterwards.
        npz: file for the quantized model's pictures as ADM's evaluator takes them.
        only_first: do one part only.
        show: told how far all processes are.

    Returns:
        All numbers, in the first process once all is done, else none; and what it takes.

    Raises:
        ValueError: if the folder holds parts of something else.
    """
    here, parts = processes(), ranges(config.pictures, BATCH)
    settings = {
        "format": _FORMAT,
        "float_model": fingerprint(reference.transformer),
        "quantized": model.transformer.ptq4dit_record.to_dict(),
        "evaluation": dataclasses.asdict(config),
        "judge": None if judged is None else type(judged.classifier).__name__,
        "pictures_kept": npz is not None,
    }

    def make(unit: str, file: Path) -> None:
        drawn, right = (draw_images(one, config, config.seeds[0], parts[unit]) for one in (model, reference))
        rows = seen(drawn, right, None if judged is None else judged.classifier)
        if npz is not None:
            rows["pictures"] = (drawn.pictures * 255).round().byte().permute(0, 2, 3, 1)
        write_tensors(file, rows, {}, _FORMAT)

    with _place(folder) as place:
        job = Job(folder=place, settings=settings, units=list(parts))
        taken = job.run(make, show, only_first=only_first)
        if only_first or not here.first:
            here.wait()
            return {}, taken.progress
        if npz is not None:
            _write_npz(npz, taken.files, config.pictures)
        numbers = summary([_read(file) for file in taken.files], judged)
        job.clear()
        here.wait()
    return numbers, taken.progress


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    """The folder that was named, or a temporary one of the first process that all use."""
    if folder is not None:
        yield folder
    elif processes().first:
        with TemporaryDirectory(prefix="ptq4dit-evaluation-") as made:
            yield Path(processes().agree(made)) / "parts"
    else:
        yield Path(processes().agree(None)) / "parts"


def _write_npz(target: Path, files: Sequence[Path], count: int) -> None:
    """All parts' pictures in one array ``arr_0`` ``(count, height, width, 3)``, one part in memory."""
    header: dict[str, Any] | None = None
    with (
        whole_file(target) as new,
        zipfile.ZipFile(new, "w") as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as array,
    ):
        for file in files:
            pictures = _read(file, pictures=True)["pictures"].numpy()
            if header is None:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, *pictures.shape[1:])}
                np.lib.format.write_array_header_1_0(array, header)
            array.write(pictures.tobytes())


def _read(file: Path, *, pictures: bool = False) -> dict[str, Tensor]:
    """A part, with its pictures alone or without."""
    tensors, _ = read_tensors(file, _FORMAT, "part of an evaluation")
    return {name: value for name, value in tensors.items() if (name == "pictures") == pictures}
