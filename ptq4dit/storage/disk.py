"""What a disk does to a writer: it is full, or the files on it are for nobody but their owner."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def room_needed(target: Path) -> Iterator[None]:
    """Turn what the writers inside say of a full disk into one sentence.

    Raises:
        ValueError: if the disk was full.
    """
    try:
        yield
    except Exception as error:
        if not _says_full(error):
            raise
        raise ValueError(
            f"Expected room for {str(target)!r}, got a full disk: nothing was written. Free some space, or choose "
            "another folder."
        ) from error


def require_room(target: Path, needed: int) -> None:
    """Refuse, before any work, a disk without room for its result.

    Args:
        target: what will be written; its folder may be missing yet.
        needed: bytes, at the least.

    Raises:
        ValueError: if fewer are free.
    """
    place = next(parent for parent in (target.resolve(), *target.resolve().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ValueError(
            f"Expected room for about {needed // 2**20 + 1} MB in {str(target)!r}, got {free // 2**20} MB. Free some "
            "space, or choose another folder."
        )


def shared_modes(path: Path) -> None:
    """Make a file, or all in a folder, readable as the umask says; some writers keep it for the owner alone."""
    probe = (path if path.is_dir() else path.parent) / ".mode"
    probe.touch()
    mode = probe.stat().st_mode & 0o666
    probe.unlink()
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and not file.is_symlink():
            os.chmod(file, mode)


def _says_full(error: BaseException) -> bool:
    """Whether an error is a full disk's: the operating system's number, or safetensors' and torch's words for it."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    text = str(error)
    return any(f"os error {number}" in text or os.strerror(number) in text for number in _FULL)
