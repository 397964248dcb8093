"""JSON files that are whole or not there, and that two processes may add to at once."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptq4dit.storage.whole_file import whole_file

try:
    import fcntl
except ImportError:  # Windows has none: there one process writes at a time
    fcntl = None  # type: ignore[assignment]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all; its folder is made if it is missing.

    Raises:
        ValueError: if the disk is full, or something else than a file is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as new:
        new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote, or nothing where there is no such file yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from reading and rewriting a file at the same time; they wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w", encoding="utf-8") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
