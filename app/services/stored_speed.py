"""Stored speed, memory and bytes of every backend on the demo model: `python -m ptq4dit speed` writes it; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.services.result_files import read_result, result_file

COMMAND = "python -m ptq4dit speed"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One contestant: its name, bits, whether it computes in integers; None where it was not measured.

    milliseconds: median of one forward pass of the smallest batch; speedup: over float32 of torch, measured in turn;
    resident: megabytes that a process of its own holds; disk: megabytes.
    """

    name: str
    label: str
    execution: str
    milliseconds: float | None
    speedup: float | None
    resident: float | None
    disk: float | None


def load_speed(folder: Path | None = None) -> tuple[list[Timing], dict[str, Any]]:
    """What was measured, fastest first, and what made it. Raises ValueError where there is no such file."""
    file = result_file("speed.json") if folder is None else folder / "speed.json"
    content = read_result(file, COMMAND)
    timings = [_timing(item) for item in content.get("contestants", {}).values()]
    measured = [timing for timing in timings if timing.milliseconds is not None]
    return sorted(measured, key=lambda timing: timing.milliseconds or 0.0), dict(content.get("made", {}))


def _timing(item: dict[str, Any]) -> Timing:
    batches = item.get("batches") or {}
    first: dict[str, Any] = next(iter(batches.values()), {})
    resident = (item.get("fresh_process") or {}).get("resident_mb")
    disk = item.get("disk_bytes")
    return Timing(
        name=str(item.get("name", "")),
        label=str(item.get("label", "")),
        execution=str(item.get("execution", "")),
        milliseconds=first.get("ms"),
        speedup=first.get("speedup"),
        resident=resident,
        disk=None if disk is None else disk / 1e6,
    )
