"""What a disk does to a writer: it is full, or the files on it are for nobody but their owner."""

import errno
import os
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
