"""Compiled models on disk: one file each, keyed by content, checked when read, bounded in size."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ptq4dit.storage.home import cache_folder as cache_folder

_SUFFIX, _DIGEST = ".openvino", hashlib.sha256().digest_size


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
        os.utime(path)
        return path

    def store(self, key: str, write: Callable[[Path], object]) -> Path:
        """Keep the model that ``write`` puts into the file it is given.

        Raises:
            ValueError: if the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                new = Path(scratch) / "new"
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
        used = sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in used)
        for path in used:
            if total <= self.limit:
                return
            if path != newest:
                total -= path.stat().st_size
                path.unlink(missing_ok=True)


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
