"""How much memory there is for one more model, and how much a model takes."""

from __future__ import annotations

import os
from pathlib import Path

TIMES = 4  # a model in memory, balanced copies of it and quantized ones, as multiples of its weights
_WEIGHTS = ("safetensors", "bin", "pt")


def needed(source: str) -> int:
    """Bytes that exploring a model takes, estimated by its files; 0 where they are not here yet."""
    path = Path(source)
    if path.is_file():
        return TIMES * path.stat().st_size
    return TIMES * sum(file.stat().st_size for kind in _WEIGHTS for file in path.rglob(f"*.{kind}"))


def available() -> int:
    """Bytes that this process may still take: of the machine, and of the container that it runs in."""
    return min(_of_machine(), _of_container())


def _of_machine() -> int:
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        return 1024 * int(text.split("MemAvailable:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 4 * 2**30


def _of_container() -> int:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="utf-8").strip()
        used = int((folder / "memory.current").read_text(encoding="utf-8"))
        return int(limit) - used if limit.isdigit() else 2**62
    except (OSError, ValueError):
        return 2**62
