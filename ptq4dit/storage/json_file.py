"""JSON files that are whole or not there, and that two processes may add to at once."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ptq4dit.storage.lock import locked
from ptq4dit.storage.whole_file import whole_file


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all; its folder is made if it is missing.

    Raises:
        ValueError: if the disk is full, or something else than a file is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as new:
        new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote, or nothing where there is no such file yet.

    Raises:
        ValueError: if it holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {str(path)!r}, got a damaged file: {error}. Remove it.") from error
    if not isinstance(content, dict):
        raise ValueError(f"Expected a JSON object in {str(path)!r}, got {type(content).__name__}. Remove it.")
    return content


def update(path: Path, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> dict[str, Any]:
    """Read a file, change what it holds and write it whole, while other processes wait with theirs.

    Args:
        path: the file; it and its folder are made if they are missing.
        change: what the file holds, nothing where there is none -> what it is to hold. Must take a moment only.

    Returns:
        What the file holds now.

    Raises:
        ValueError: as `read_json` and `write_json`.
    """
    with locked(path):
        content = dict(change(read_json(path)))
        write_json(path, content)
    return content
