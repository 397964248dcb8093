"""Which model a command is about: a path or hub id that was given, or the demo that ships with the repository."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import ptq4dit
from ptq4dit.parallel import processes
from ptq4dit.storage.home import CALIBRATION, kept
from ptq4dit.storage.official_files import bare_name

if TYPE_CHECKING:
    from ptq4dit import Calibration, Dit

DEMO = Path(ptq4dit.__file__).resolve().parents[1] / "assets" / "demo"


def demo_path(folder: Path | None = None) -> str:
    """The demo model, from any working directory; relative to it where it can be.

    Raises:
        ValueError: if it is missing, as in an installation without the repository's assets.
    """
    folder = DEMO if folder is None else folder
    if not (folder / "model_index.json").is_file():
        raise ValueError(
            f"Expected the demo model in {str(folder)!r}, where there is none. Name a model, or run from a checkout of "
            "the repository."
        )
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


def add_model(command: argparse.ArgumentParser, text: str) -> None:
    """The ``model`` argument and ``--device``, which every command has."""
    command.add_argument("model", nargs="?", default=None, help=text)
    command.add_argument("--device", default="cpu", help="where the model runs, such as cuda")


def add_offload(command: argparse.ArgumentParser) -> None:
    """``--offload``, for models that do not fit in memory."""
    command.add_argument("--offload", default=None, help="folder that holds the blocks' weights in place of memory")


def model_source(options: argparse.Namespace) -> str:
    """The model that was named, or the demo."""
    return options.model or demo_path()


def short_name(source: str) -> str:
    """What files made from a model are called after it: ``assets/demo`` -> ``demo``."""
    return bare_name(Path(source).resolve().name)


def open_model(source: str, device: str) -> "Dit":
    """A quantized checkpoint if the folder is one, else a float model."""
    if (Path(source) / "manifest.json").is_file():
        device = processes().device(device)
        _require_device(device)
        return ptq4dit.load_quantized(source, device)
    return open_float(source, device)


def open_float(source: str, device: str, offload: str | None = None) -> "Dit":
    """A float model, its blocks' weights in a folder if one is given; processes have one each."""
    here = processes()
    device = here.device(device)
    _require_device(device)
    folder = None if offload is None else here.own(Path(offload))
    return ptq4dit.load(source, device=device, offload_folder=folder)


def require_float(source: str) -> None:
    """Refuse, before anything else is asked for, a folder that holds no float model; a hub id is let through.

    Raises:
        ValueError: if it holds none, or a quantized one.
    """
    from ptq4dit.model.official import is_official
    from ptq4dit.model.pipelines import require_folder

    if (Path(source) / "manifest.json").is_file():
        raise ValueError(
            f"Expected a float model, got {source!r}, which is quantized already. Name the one that it was made from."
        )
    if not is_official(source):
        require_folder(source)


def open_calibration(file: str | None, source: str) -> "Calibration":
    """The calibration that was named, or the model's own.

    Raises:
        ValueError: if there is none; the message says how to make one.
    """
    own = kept(source, CALIBRATION)
    if file is None and own is None:
        raise ValueError(
            f"Expected a calibration, got none with {source!r}. Make one with `python -m ptq4dit calibrate {source}` "
            "and name it with --calibration."
        )
    return ptq4dit.Calibration.load(file or own or "")


def _require_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"Expected a device that torch can use here, got {device!r}: {first}") from error
