"""Read files of strangers: tensors and plain values come out, no code of theirs runs, and no size is believed."""

import argparse
import json
import pathlib
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ptq4dit.storage.strict_json import COLOUR, first_sentence

_HARMLESS: list[Any] = [
    *(argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
    *(type(np.float64(0)).__reduce__(np.float64(0))[0], np.dtype),  # how NumPy's numbers are made again
    *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")),
]
"""What training scripts store beside weights, and which only holds values."""
_TYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
    **{"U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64},
    **{"U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "C64": torch.complex64, "BOOL": torch.bool},
}


def read_headers(
    paths: Sequence[str | Path],
) -> tuple[dict[str, torch.dtype], dict[str, tuple[int, ...]], dict[str, str]]:
    """Types, shapes and metadata of safetensors files; no tensor is read.

    Raises:
        ValueError: if there is none, or one is damaged.
    """
    types: dict[str, torch.dtype] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                metadata |= dict(file.metadata() or {})
                for key in file.keys():  # noqa: SIM118
                    part = file.get_slice(key)
                    types[key], shapes[key] = _TYPES[part.get_dtype()], tuple(part.get_shape())
        except (SafetensorError, OSError, KeyError) as error:
            raise ValueError(
                f"Expected a whole safetensors file, got {Path(path).name!r}, which is damaged: {first_sentence(error)}"
            ) from error
    if not types:
        raise ValueError("Expected the weights of a transformer, got none. Copy the whole folder again.")
    return types, shapes, metadata


def read_positions(path: str | Path) -> dict[str, int]:
    """Where each tensor of a safetensors file begins, in bytes; of a file whose header `read_headers` has seen."""
    with Path(path).open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: 8 + length + said["data_offsets"][0] for name, said in header.items() if name != "__metadata__"}


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
        zipped = zipfile.is_zipfile(path)
        if zipped:
            _require_stored(path)
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"Expected tensors in {str(path)!r}, got a file that cannot be read safely: {_objection(path, error)}"
        ) from None
    except Exception as error:  # whatever torch's reader stumbles over in a stranger's file
        raise ValueError(
            f"Expected tensors in {str(path)!r}, got a file that cannot be read safely: it is damaged or no "
            f"checkpoint ({first_sentence(error)})."
        ) from None


def require_dense(path: Path, tensors: Mapping[str, Any]) -> None:
    """Refuse tensors that are no plain floats in memory, or claim more values than their file has bytes for.

    Args:
        path: the file that they were read from.
        tensors: by name.

    Raises:
        ValueError: naming the first such tensor.
    """
    held, claimed = path.stat().st_size, 0
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_meta:
            kind = type(tensor).__name__ if not isinstance(tensor, Tensor) else f"{tensor.layout}, {tensor.device}"
            raise ValueError(
                f"Expected a tensor {name!r} with values in {str(path)!r}, got one of another kind: {kind}."
            )
        if not tensor.is_floating_point():
            raise ValueError(
                f"Expected floating weights {name!r} in {str(path)!r}, got {tensor.dtype}. Start from the float model."
            )
        claimed += tensor.numel() * tensor.element_size()
        if claimed > held:
            raise ValueError(
                f"Expected tensors that fit the {held} bytes of {str(path)!r}, got more, such as {name!r} of shape "
                f"{tuple(tensor.shape)}. It is damaged, or not what it says."
            )


def _require_stored(path: Path) -> None:
    """torch compresses nothing; what would grow while it is read is no file of torch's."""
    with zipfile.ZipFile(path) as file:
        if sum(entry.file_size for entry in file.infolist()) > path.stat().st_size:
            raise ValueError("its entries are compressed")


def _objection(path: Path, error: Exception) -> str:
    """Which classes a file needs that are not let in."""
    named = re.findall(r"(?:GLOBAL|class|function) ([\w.]+\.[\w]+)", COLOUR.sub("", str(error)))
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            named = torch.serialization.get_unsafe_globals_in_checkpoint(path) or named
    except (RuntimeError, ValueError, EOFError, struct.error, pickle.UnpicklingError):
        pass  # a former format, of which torch does not tell
    what = f"it holds {', '.join(sorted(set(named))[:5])}, which" if named else "it holds objects that"
    return f"{what} could run code. Save the weights alone, as a dictionary of tensors."
