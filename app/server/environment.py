"""What other programs' settings and other users' files must not keep from starting; before gradio is imported."""

from __future__ import annotations

import ctypes
import os
import tempfile
from getpass import getuser
from pathlib import Path

HERE = ("localhost", "127.0.0.1", "::1")
ARENAS = 2  # heaps of the C library that threads share; its own bound, eight a core, keeps what forty threads freed
_M_ARENA_MAX = -8  # of glibc's mallopt


def prepare() -> None:
    """Threads share heaps, files go to a folder of this user's, requests to this machine through no proxy."""
    share_heaps()
    if "GRADIO_TEMP_DIR" not in os.environ:
        folder = Path(tempfile.gettempdir()) / f"ptq4dit-{_user()}"
        os.environ["GRADIO_TEMP_DIR"] = str(_own(folder))
    for name in ("NO_PROXY", "no_proxy"):
        named = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join([*named, *(host for host in HERE if host not in named)])


def share_heaps() -> bool:
    """Let all threads take memory from a few heaps, where the C library is glibc; whether it is."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # other libraries give the same numbers other meanings
        return bool(library.mallopt(_M_ARENA_MAX, ARENAS))
    except (OSError, AttributeError, TypeError):
        return False


def _user() -> str:
    try:
        return getuser()
    except (OSError, KeyError, ImportError):  # a number without a name, as in a container
        return str(_number())


def _own(folder: Path) -> Path:
    """The folder where this user may write in it and nobody else owns it; else a new one."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if _number() in (None, folder.stat().st_uid) and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="ptq4dit-"))


def _number() -> int | None:
    """This user's number; None where users have none, as on Windows, whose temporary folders are a user's own."""
    return os.getuid() if hasattr(os, "getuid") else None
