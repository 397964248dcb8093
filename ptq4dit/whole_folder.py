"""Write a folder whole or not at all, and replace none but our own."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MANIFEST = "manifest.json"


def require_replaceable(folder: Path, kind: str) -> None:
    """Refuse a folder that holds anything but what we wrote before.

    Args:
        folder: where something is to be written; may be missing or empty.
        kind: of what may be replaced, the beginning of its manifest's format, such as ``"ptq4dit-export"``.

    Raises:
        ValueError: if it is a file, or holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not _format(folder / MANIFEST).startswith(kind):
        what = kind.removeprefix("ptq4dit-")
        raise ValueError(f"Expected a new folder or an older {what}, got {str(folder)!r}, which holds other files.")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; it takes the target's place once the block ends without an error.

    What was there before stays whole until the new one is in its place, under a name that starts with a dot.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        yield new
        if not target.exists():
            os.replace(new, target)
            return
        old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-old-")) / target.name
        os.replace(target, old)
        try:
            os.replace(new, target)
        except BaseException:
            os.replace(old, target)
            raise
        finally:
            shutil.rmtree(old.parent)


def _format(manifest: Path) -> str:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(content.get("format", "")) if isinstance(content, dict) else ""
