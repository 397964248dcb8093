"""Where stored results lie, and what a visitor is told of a file that is not there: never a path of this machine."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.services.models import DEMO, ROOT, source

DEMO_RESULTS = DEMO / "results"


def result_file(name: str) -> Path:
    """The file `name` among the results of the explored model, or else of the demo model; it may not exist."""
    own = Path(source()) / "results" / name
    return own if own.is_file() else DEMO_RESULTS / name


def read_result(file: Path, command: str) -> dict[str, Any]:
    """What a JSON file of results holds, read anew when it changes.

    Raises ValueError, naming the command that writes it, where there is none or it holds no JSON object.
    """
    if not file.is_file():
        raise ValueError(f"stored results: expected {told(file)}, got no such file; run {command}")
    return _read(file, file.stat().st_mtime_ns, command)


def told(path: Path) -> str:
    """A path as a visitor may read it: from the repository's root on, or the file's name alone."""
    absolute = path.resolve()
    return absolute.relative_to(ROOT).as_posix() if absolute.is_relative_to(ROOT) else path.name


@lru_cache(maxsize=16)
def _read(file: Path, _modified: int, command: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"stored results: expected a JSON object in {told(file)}, got none; run {command}")
    return content
