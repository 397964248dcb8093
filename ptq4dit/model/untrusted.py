"""Read checkpoint files of strangers: tensors and plain values come out, and no code of theirs runs."""

import argparse
import pathlib
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HARMLESS: list[Any] = [argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath]
"""What training scripts store beside weights, and which only holds values."""


def read_untrusted(path: Path) -> Any:
    """What a ``.safetensors`` file, or a file of ``torch.save`` in its present or former format, holds.

    Args:
        path: a file that is there.

    Raises:
        ValueError: if it is damaged, or holds objects of other classes than tensors, containers and `_HARMLESS`.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"Expected tensors in {str(path)!r}, got a file that cannot be read safely: {_objection(path, error)}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, struct.error, SafetensorError) as error:
        raise ValueError(
            f"Expected tensors in {str(path)!r}, got a file that cannot be read safely: it is damaged or no "
            f"checkpoint ({_plain(error)})."
        ) from None


def _objection(path: Path, error: Exception) -> str:
    """Which classes a file needs that are not let in."""
    named = re.findall(r"(?:GLOBAL|class|function) ([\w.]+\.[\w]+)", _COLOUR.sub("", str(error)))
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            named = torch.serialization.get_unsafe_globals_in_checkpoint(path) or named
    except (RuntimeError, ValueError, EOFError, struct.error, pickle.UnpicklingError):
        pass  # a former format, of which torch does not tell
    what = f"it holds {', '.join(sorted(set(named))[:5])}, which" if named else "it holds objects that"
    return f"{what} could run code. Save the weights alone, as a dictionary of tensors."


def _plain(error: BaseException) -> str:
    """An error's first sentence, without colour codes."""
    text = _COLOUR.sub("", str(error)).strip()
    return text.splitlines()[0].split(". ")[0] if text else type(error).__name__
