"""What this process holds, by the operating system's account, and how soon it gives back what it has freed."""

import ctypes
from pathlib import Path

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's mallopt
LARGE = 2**20
"""Bytes from which freed memory goes back at once, see `give_back_at_once`."""
HEAPS = 2
"""That threads share: glibc's own bound, eight a core, keeps what forty threads of a server freed."""


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
    return _mallopt(_M_MMAP_THRESHOLD, size)


def share_heaps(count: int = HEAPS) -> bool:
    """Have all threads take memory from so many heaps; whether that can be had here. For programs, not libraries."""
    return _mallopt(_M_ARENA_MAX, count)


def _mallopt(option: int, value: int) -> bool:
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # other libraries give the same numbers other meanings
        return bool(library.mallopt(option, value))
    except (OSError, AttributeError, TypeError):
        return False
