"""What a calibration file says of itself in its first bytes: read without torch, as no page waits for it."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

LARGEST = 64 * 2**20  # bytes of a header; a larger one is no calibration's


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the file claims: the fingerprint of the model that was observed, and its layers in model order."""

    model: str
    layers: tuple[str, ...]


def read_header(file: Path | None) -> Header | None:
    """The header of a calibration; None where there is no such file or it is no calibration."""
    if file is None or not file.is_file():
        return None
    return _read(file, file.stat().st_mtime_ns)


def is_older(file: Path, folder: Path) -> bool:
    """Whether weights in a model's folder were written after the calibration beside them: its claim is to be proven."""
    weights = [path for kind in ("safetensors", "bin") for path in (folder / "transformer").glob(f"*.{kind}")]
    return any(path.stat().st_mtime > file.stat().st_mtime + 1 for path in weights)


@lru_cache(maxsize=16)
def _read(file: Path, _modified: int) -> Header | None:
    try:
        with file.open("rb") as opened:
            (size,) = struct.unpack("<Q", opened.read(8))
            if size > LARGEST:
                return None
            about = json.loads(opened.read(size))["__metadata__"]
        model, layers = about["model"], json.loads(about["names"])["activation_min"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError, struct.error):
        return None
    named = isinstance(model, str) and isinstance(layers, list) and all(isinstance(layer, str) for layer in layers)
    return Header(model=model, layers=tuple(layers)) if named else None
