"""One process at a time: others wait, or are told that somebody is at work."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has none: there one process works at a time
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others from reading and rewriting a file at the same time; they wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _held(path, wait=True):
        yield


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Keep others from doing the same thing to a folder; they are refused at once. A killed process holds nothing.

    Args:
        folder: must be there.
        what: is done, in one word.

    Raises:
        ValueError: if somebody does it already.
    """
    with _held(folder / what, wait=False) as held:
        if not held:
            raise ValueError(
                f"Expected nobody else at work, got another {what} that writes to {str(folder)!r} now. Wait for it to "
                "end, or stop it."
            )
        yield


@contextmanager
def _held(path: Path, wait: bool) -> Iterator[bool]:
    """Whether the lock beside a path is this one's in the block; its file is there only as long as somebody has it."""
    beside = path.with_name(f".{path.name}.lock")
    if fcntl is None:
        yield True
        return
    while True:
        with beside.open("w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not _is_there(lock, beside):
                continue  # who had it has removed it meanwhile, and others may have made a new one
            try:
                yield True
            finally:
                beside.unlink(missing_ok=True)
            return


def _is_there(lock: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False
