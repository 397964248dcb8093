"""Where a stored number comes from, and the files that it is kept in: the engine's own, for the recipes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ptq4dit.model.fingerprint import fingerprint  # noqa: E402
from ptq4dit.storage import provenance  # noqa: E402
from ptq4dit.storage.json_file import read_json, write_json  # noqa: E402

__all__ = ["ROOT", "made_by", "of_model", "read_json", "write_json"]


def made_by(command: str) -> dict[str, Any]:
    """What to store beside a result so that anyone can make it again."""
    return provenance.made_by(command, torch.get_num_threads())


def of_model(transformer: torch.nn.Module) -> dict[str, str]:
    """Which model a result is of: nothing shows it under another one's name."""
    return {"model_fingerprint": fingerprint(transformer)}
