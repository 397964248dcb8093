"""Stored results: found beside the model or in the cache, and only those that say that they are of the model.

What a visitor is told of a file that is not there, or is another model's, never names a path of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.services.loading import command
from app.services.models import identity
from app.services.shelf import entry
from app.services.shelf import told as told

FINGERPRINT = "model_fingerprint"


class NoResultsError(ValueError):
    """A model has no such results; the message names it, and the command that makes them."""


def result_file(model: str, name: str) -> Path | None:
    """The file `name` among the results of a model; None without one."""
    from ptq4dit.storage.home import RESULTS, kept

    return kept(entry(model).source, f"{RESULTS}/{name}")


def result_files(model: str) -> list[Path]:
    """All JSON files of results that are kept for a model, whosever they are."""
    from ptq4dit.storage.home import RESULTS, homes

    found = [file for folder in homes(entry(model).source) for file in sorted((folder / RESULTS).glob("*.json"))]
    return list({file.name: file for file in reversed(found) if "unfinished" not in file.name}.values())[::-1]


def model_results(model: str, name: str, how: str = "") -> dict[str, Any]:
    """What a file of results holds, which has to say that it is of this very model.

    Args:
        model: the model's name.
        name: the file's.
        how: the command that writes it; `python -m ptq4dit prepare` of the model if none.

    Raises NoResultsError where there is no such file, or it is of other weights; ValueError where it cannot be read.
    """
    how = how or command(model)
    file = result_file(model, name)
    if file is None:
        raise NoResultsError(f"Nothing of this kind is stored for {model} yet. Make it: {how}")
    content = read_result(file, how)
    require_own(model, content, how)
    return content


def require_own(model: str, content: dict[str, Any], how: str) -> None:
    """Raise NoResultsError unless results say that they are of this very model."""
    from ptq4dit.storage.provenance import same_model

    own = identity(model)
    if own is None:
        raise NoResultsError(
            f"Results are kept for {model}, and shown once its weights are loaded and known to be those they are of."
        )
    if not same_model(fingerprint_of(content), own):
        raise NoResultsError(
            f"The results kept for {model} are of other weights than these, so they are not shown. Make its own: {how}"
        )


def fingerprint_of(content: dict[str, Any]) -> str | None:
    """The fingerprint of the model that results are of; None where they do not say."""
    made = content.get("made")
    found = content.get(FINGERPRINT) or (made.get(FINGERPRINT) if isinstance(made, dict) else None)
    return found if isinstance(found, str) else None


@contextmanager
def whole(file: Path, how: str) -> Iterator[None]:
    """Raise ValueError, naming the command that writes a file, where what is read in the block is not there as it is.

    What a stranger's file holds is found out by reading it: whatever is missing or of another type raises there.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"stored results: expected all of them in {told(file)}, got a damaged file; run {how}"
        ) from error


def number(value: Any) -> float | None:
    """A number of a file, or None for none. Raises TypeError for anything else."""
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise TypeError(f"number: expected one; got {type(value).__name__}")


def read_result(file: Path, how: str) -> dict[str, Any]:
    """What a JSON file of results holds, read anew when it changes, whosever it is.

    Raises ValueError, naming the command that writes it, where there is none or it holds no JSON object.
    """
    if not file.is_file():
        raise ValueError(f"stored results: expected {told(file)}, got no such file; run {how}")
    return _read(file, file.stat().st_mtime_ns, how)


@lru_cache(maxsize=32)
def _read(file: Path, _modified: int, how: str) -> dict[str, Any]:
    from ptq4dit.storage.strict_json import read_strict_json

    try:
        content = read_strict_json(file, infinities=True)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"stored results: expected a JSON object in {told(file)}, got none; run {how}")
    return content
