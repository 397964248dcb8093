"""What other programs' settings and other users' files must not keep from starting; before gradio is imported."""

from __future__ import annotations

import os
import tempfile
from getpass import getuser
from pathlib import Path

HERE = ("localhost", "127.0.0.1", "::1")


def prepare() -> None:
    """Files go to a folder of this user's, requests to this machine through no proxy."""
    if "GRADIO_TEMP_DIR" not in os.environ:
        folder = Path(tempfile.gettempdir()) / f"ptq4dit-{_user()}"
        os.environ["GRADIO_TEMP_DIR"] = str(_own(folder))
    for name in ("NO_PROXY", "no_proxy"):
        named = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join([*named, *(host for host in HERE if host not in named)])


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
