"""Scratch folders that tell whether their writer still lives: a killed one's can be swept, another's is left alone."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # no such locks on this system: nothing is taken for abandoned
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Scratch:
    """A folder of our own, locked while this process lives."""

    path: Path


@contextmanager
def scratch_folder(place: Path, name: str) -> Iterator[Scratch]:
    """A new hidden folder in ``place``, gone afterwards whatever happens.

    Raises:
        OSError: if none can be made.
    """
    path, lock = _locked(place, name)
    try:
        yield Scratch(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


class HeldFolder:
    """A scratch folder for as long as somebody holds this object, copies included; those of dead writers are swept.

    Attributes:
        path: where it is.
    """

    def __init__(self, place: Path, name: str) -> None:
        """Make one in a place.

        Raises:
            OSError: if none can be made.
        """
        for abandoned in left_behind(place, name):
            shutil.rmtree(abandoned, ignore_errors=True)
        there = ExitStack()
        self.path = there.enter_context(scratch_folder(place, name)).path
        weakref.finalize(self, there.close)

    def __deepcopy__(self, _: dict[int, Any]) -> "HeldFolder":
        return self


def left_behind(place: Path, name: str) -> list[Path]:
    """Scratch folders of that name in a place whose writers are dead."""
    if not place.is_dir():
        return []
    found = [path for path in place.iterdir() if path.name.startswith(prefix(name))]
    return [path for path in found if path.is_dir() and not path.is_symlink() and _is_abandoned(path)]


def prefix(name: str) -> str:
    """How the scratch folders of a name begin: nothing but this package makes such ones."""
    return f".{name}.ptq4dit-"


def _locked(place: Path, name: str) -> tuple[Path, int | None]:
    """A folder and its lock; made again if a sweeper took it between the two."""
    while True:
        path = Path(tempfile.mkdtemp(dir=place, prefix=prefix(name)))
        lock = _lock(path)
        if path.is_dir():
            return path, lock
        if lock is not None:
            os.close(lock)


def _is_abandoned(path: Path) -> bool:
    if fcntl is None:
        return False
    lock = _lock(path)
    if lock is None:
        return False
    os.close(lock)
    return True


def _lock(path: Path) -> int | None:
    """The lock of a folder, or None where another process has it or there are no locks."""
    if fcntl is None:
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
