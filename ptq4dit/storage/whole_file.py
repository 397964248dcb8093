"""Write a file whole or not at all: under a name of its own in the same folder, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptq4dit.storage.disk import room_needed, shared_modes
from ptq4dit.storage.scratch import left_behind, scratch_folder


def require_file(path: Path) -> None:
    """Refuse, before any work, a file that could not be written after it.

    Args:
        path: where something is to be written; its folder must be there. May be an older file, or a link to one.

    Raises:
        ValueError: if its folder is missing or cannot be written, or a folder or a device is there.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "no ordinary file"
        raise ValueError(f"Expected the name of a file to write, got {str(path)!r}, which is {what}. Choose another.")
    if not target.parent.is_dir():
        raise ValueError(f"Expected a folder that is there for {str(path)!r}, got {str(path.parent)!r}. Make it first.")
    require_place(target.parent, target.name)


def require_place(folder: Path, name: str = "new") -> None:
    """Refuse a folder in which nothing can be written; it is made if it is missing.

    Raises:
        ValueError: if it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder, name):
            pass
    except OSError as error:
        raise ValueError(
            f"Expected a folder that can be written, got {str(folder)!r}: {error.strerror or error}. Choose another."
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write; it takes the target's place once the block ends without an error.

    A link keeps pointing to the same file. What writers that were killed left is swept. The file is readable as the
    umask says.

    Raises:
        ValueError: if the disk is full; nothing is left behind then. Also if a folder or a device is there.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        require_file(path)
    for left in left_behind(target.parent, target.name):
        shutil.rmtree(left, ignore_errors=True)
    with room_needed(path), scratch_folder(target.parent, target.name) as scratch:
        new = scratch.path / target.name
        yield new
        shared_modes(new)
        os.replace(new, target)
