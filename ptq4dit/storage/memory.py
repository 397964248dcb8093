"""What this process holds, by the operating system's account, and how soon it gives back what it has freed."""

import ctypes
from pathlib import Path

_M_MMAP_THRESHOLD = -3  # of glibc's mallopt
LARGE = 2**20
"""Bytes from which freed memory goes back at once, see `give_back_at_once`."""


def held_bytes() -> dict[str, int]:
    """``VmRSS``, what is resident, and ``VmHWM``, the most that was, in bytes; empty where there is no ``/proc``."""
    path = Path("/proc/self/status")
    if not path.is_file():
        return {}
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[0] in ("VmRSS:", "VmHWM:")}


def give_back_at_once(size: int = LARGE) -> bool:
    """Have what is freed of so many bytes and more go back to the system at once; whether that can be had here.

    glibc raises that bound by itself, to 32 MB, as large blocks come and go; a model that passes through memory block
    by block then stays in it, freed and not given back.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # other libraries give the same numbers other meanings
        return bool(library.mallopt(_M_MMAP_THRESHOLD, size))
    except (OSError, AttributeError, TypeError):
        return False
