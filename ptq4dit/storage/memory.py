"""What this process holds, by the operating system's account."""

from pathlib import Path


def held_bytes() -> dict[str, int]:
    """``VmRSS``, what is resident, and ``VmHWM``, the most that was, in bytes; empty where there is no ``/proc``."""
    path = Path("/proc/self/status")
    if not path.is_file():
        return {}
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[0] in ("VmRSS:", "VmHWM:")}
