"""Compiled models on disk: one file each, keyed by content, checked when read, bounded in size."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ptq4dit.storage.home import cache_folder as cache_folder
from ptq4dit.storage.scratch import left_behind, prefix, scratch_folder

_SUFFIX, _DIGEST, _SCRATCH = ".openvino", hashlib.sha256().digest_size, "compiling"


def content_key(parts: Iterable[bytes | memoryview]) -> str:
    """The name of whatever these bytes make: 32 hexadecimal digits; where one part ends matters."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class CompiledCache:
    """Compiled models of up to ``limit`` bytes together; the least recently used ones go first.

    A file ends with the SHA-256 of what comes before, and appears whole or not at all: processes may share a folder.

    Attributes:
        folder: made when something is stored.
        limit: bytes; the newest model stays even where it alone is larger.
    """

    folder: Path
    limit: int

    def path(self, key: str) -> Path:
        """Where the model of this key is, if it is."""
        return self.folder / f"{key}{_SUFFIX}"

    def find(self, key: str) -> Path | None:
        """The stored model, marked as used now; a damaged one is removed and not found."""
        path = self.path(key)
        if not path.is_file():
            return None
        if not _is_whole(path):
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):  # another user's, or gone meanwhile: it is used nevertheless
            os.utime(path)
        return path

    def store(self, key: str, write: Callable[[Path], object]) -> Path:
        """Keep the model that ``write`` puts into the file it is given.

        Raises:
            ValueError: if the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in left_behind(self.folder, _SCRATCH):
                shutil.rmtree(left, ignore_errors=True)
            with scratch_folder(self.folder, _SCRATCH) as scratch:
                new = scratch.path / "new"
                write(new)
                digest = _digest(new, new.stat().st_size)
                with new.open("ab") as file:
                    file.write(digest)
                os.replace(new, self.path(key))
        except OSError as error:
            raise ValueError(
                f"Expected a folder for compiled models that can be written, got {str(self.folder)!r}: {error}. "
                "Set IntegerOptions(cache=...) or PTQ4DIT_CACHE to another one."
            ) from error
        self._shrink(self.path(key))
        return self.path(key)

    def _shrink(self, newest: Path) -> None:
        """Remove what was used longest ago, until the rest and what others are writing now fit the limit."""
        entries = [(path, found) for path in self.folder.glob(f"*{_SUFFIX}") if (found := _stat(path))]
        written = [found for path in self.folder.glob(f"{prefix(_SCRATCH)}*/*") if (found := _stat(path))]
        total = sum(found.st_size for found in [*written, *(found for _, found in entries)])
        for path, found in sorted(entries, key=lambda entry: entry[1].st_mtime):
            if total <= self.limit:
                return
            if path != newest:
                total -= found.st_size
                path.unlink(missing_ok=True)


def _stat(path: Path) -> os.stat_result | None:
    """Of a file that another process may remove at any moment."""
    with contextlib.suppress(OSError):
        return path.stat()
    return None


def payload_bytes(path: Path) -> int:
    """Bytes of the model in a stored file, its digest not counted."""
    return path.stat().st_size - _DIGEST


def _is_whole(path: Path) -> bool:
    size = payload_bytes(path)
    if size < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        stored = file.read()
    return stored == _digest(path, size)


def _digest(path: Path, size: int) -> bytes:
    digest, left = hashlib.sha256(), size
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, 2**20))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.digest()
