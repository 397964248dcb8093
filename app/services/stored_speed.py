"""Stored speed, memory and bytes of every backend on a model: `python -m ptq4dit speed` writes it; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.services.loading import command
from app.services.models import outline
from app.services.result_files import model_results, number, read_result, whole

NAME = "speed.json"
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


def load_speed(model: str) -> tuple[list[Timing], dict[str, Any]]:
    """What was measured on a model, fastest first, and what made it. Raises ValueError where there is nothing."""
    if outline(model).prompted:
        raise ValueError("Speed is measured of models that are given classes; of others by the size of their layers.")
    how = command(model, "speed", "--explorer")
    content = model_results(model, NAME, how)
    with whole(Path(NAME), how):
        return timings(content)


def read_speed(folder: Path) -> tuple[list[Timing], dict[str, Any]]:
    """The same of `speed.json` in a folder, whosever it is."""
    with whole(folder / NAME, COMMAND):
        return timings(read_result(folder / NAME, COMMAND))


def timings(content: dict[str, Any]) -> tuple[list[Timing], dict[str, Any]]:
    """The contestants that were measured, fastest first, and what made them."""
    found = [_timing(item) for item in content.get("contestants", {}).values()]
    measured = [timing for timing in found if timing.milliseconds is not None]
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
        milliseconds=number(first.get("ms")),
        speedup=number(first.get("speedup")),
        resident=number(resident),
        disk=None if disk is None else disk / 1e6,
    )
