"""Write a folder whole or not at all, and replace none but our own."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptq4dit.storage.disk import room_needed, shared_modes
from ptq4dit.storage.scratch import Scratch, left_behind, prefix, scratch_folder

MANIFEST = "manifest.json"
_NEW, _OLD, _NAMES = "new", "old", "names.json"
_READY = ".ready"
"""Contents that are whole and wait inside the folder to take the old ones' place."""


def require_writable(folder: Path, kind: str) -> None:
    """Refuse, before any work, a folder that cannot be written, or that holds anything but what we wrote before.

    Args:
        folder: where something is to be written; may be missing or empty, a link to a folder, a mount, ``"."``.
        kind: of what may be replaced, the beginning of its manifest's format, such as ``"ptq4dit-export"``.

    Raises:
        ValueError: if it is a file, holds something else, or nothing can be written there.
    """
    require_replaceable(folder, kind)
    target = folder.resolve()
    inside = target.is_dir() and not _can_be_renamed(target)
    place = target if inside else next(parent for parent in target.parents if parent.exists())
    try:
        with scratch_folder(place, target.name):
            pass
    except OSError as error:
        raise ValueError(
            f"Expected a folder that can be written, got {str(folder)!r}: {error.strerror or error}. Choose another."
        ) from error


def require_replaceable(folder: Path, kind: str) -> None:
    """Refuse a folder that holds anything but what we wrote before; see `require_writable`.

    Raises:
        ValueError: if it is a file, or holds something else.
    """
    recover(folder)
    if not folder.exists() or (folder.is_dir() and not _entries(folder)):
        return
    if not holds(folder, kind):
        what = kind.removeprefix("ptq4dit-")
        raise ValueError(f"Expected a new folder or an older {what}, got {str(folder)!r}, which holds other files.")


def holds(folder: Path, kind: str) -> bool:
    """Whether a folder is one of ours of this kind, by its manifest."""
    return _format(folder / MANIFEST).startswith(kind)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill; it takes the target's place once the block ends without an error.

    What was there before stays whole until the new one is in its place, under a name that starts with a dot. Where the
    folder itself cannot be renamed (a mount, the present folder, a parent that cannot be written) its contents are
    exchanged instead; a link keeps pointing to the same folder. What writers that were killed left is swept; what they
    had not finished exchanging is finished or undone (`recover`). Files are readable as the umask says.

    Raises:
        ValueError: if the disk is full; nothing is left behind then.
    """
    recover(folder)
    target = folder.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    inside = target.is_dir() and not _can_be_renamed(target)
    with room_needed(folder), scratch_folder(target if inside else target.parent, target.name) as scratch:
        new = scratch.path / _NEW
        new.mkdir()
        yield new
        shared_modes(new)
        if inside:
            _exchange_contents(target, scratch)
        else:
            _take_place(target, scratch)


def recover(folder: Path) -> None:
    """Finish or undo what a writer that was killed left, and sweep it; a folder that is being written is left alone.

    - Killed between two renames: the old folder comes back.
    - Killed while contents were exchanged: the exchange is finished.
    """
    target = folder.resolve()
    if target.is_dir():
        for path in left_behind(target, target.name):
            if (path / _READY).is_dir():
                _finish_exchange(target, path)
            shutil.rmtree(path, ignore_errors=True)
    for path in left_behind(target.parent, target.name):
        if (path / _OLD).is_dir() and not target.exists():
            os.replace(path / _OLD, target)
        shutil.rmtree(path, ignore_errors=True)


def _can_be_renamed(target: Path) -> bool:
    here = Path.cwd()
    busy = os.path.ismount(target) or here == target or target in here.parents
    return not busy and os.access(target.parent, os.W_OK | os.X_OK)


def _take_place(target: Path, scratch: Scratch) -> None:
    new, old = scratch.path / _NEW, scratch.path / _OLD
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(new, target)
    except BaseException:
        if old.exists():
            os.replace(old, target)
        raise


def _exchange_contents(target: Path, scratch: Scratch) -> None:
    new, ready = scratch.path / _NEW, scratch.path / _READY
    (new / _NAMES).write_text(json.dumps([path.name for path in new.iterdir()]), encoding="utf-8")
    os.replace(new, ready)  # from here on the exchange is finished, by whoever comes next
    _finish_exchange(target, scratch.path)


def _finish_exchange(target: Path, scratch: Path) -> None:
    ready = scratch / _READY
    names = set(json.loads((ready / _NAMES).read_text(encoding="utf-8")))
    for entry in _entries(target):
        if entry.name not in names or (ready / entry.name).exists():
            _remove(entry)
    for name in sorted(names - {MANIFEST}) + sorted(names & {MANIFEST}):
        if (ready / name).exists():
            os.replace(ready / name, target / name)


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, scratch of other writers and what a mount puts there apart."""
    ours = prefix(folder.resolve().name)
    return [path for path in folder.iterdir() if path.name != "lost+found" and not path.name.startswith(ours)]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _format(manifest: Path) -> str:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(content.get("format", "")) if isinstance(content, dict) else ""
