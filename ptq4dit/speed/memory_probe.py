"""Resident memory of one contestant, by the operating system's account, in a process that holds nothing else."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ptq4dit.storage.memory import held_bytes

_LIMIT_S = 1800


def resident_in_a_child(key: str, subject: Path, folder: Path, batch: int, threads: int) -> dict[str, Any]:
    """Load a contestant in a fresh process, run it twice, and ask the system what it holds.

    Returns:
        ``resident_mb`` (all pages), ``own_mb`` (without what the imports alone take), ``peak_mb``, ``load_s`` and
        ``first_call_s`` in that process; an ``error`` instead if it failed.
    """
    arguments = [key, str(subject), str(folder), str(batch), str(threads)]
    command = [sys.executable, "-m", "ptq4dit.speed.memory_probe", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def status_mb() -> dict[str, float]:
    """`held_bytes` in MB."""
    return {name: round(count / 1e6, 1) for name, count in held_bytes().items()}


def _measure(key: str, subject_folder: Path, folder: Path, batch: int, threads: int) -> dict[str, Any]:
    from ptq4dit.speed.contestants.registry import ALL
    from ptq4dit.speed.subject import Subject

    contestant, subject = ALL[key], Subject(folder=subject_folder)
    for name in contestant.imports:
        importlib.import_module(name)
    before = status_mb()
    begun = time.perf_counter()
    loaded = contestant.load(subject, folder, threads)
    call = loaded.bind(subject.inputs(batch))
    ready = time.perf_counter()
    call()
    first = time.perf_counter()
    call()
    after = status_mb()
    memory = {
        "resident_mb": after.get("VmRSS"),
        "own_mb": round(after["VmRSS"] - before["VmRSS"], 1) if after else None,
        "peak_mb": after.get("VmHWM"),
    }
    return memory | {"load_s": round(ready - begun, 2), "first_call_s": round(first - ready, 2)}


if __name__ == "__main__":
    key, subject, folder, batch, threads = sys.argv[1:]
    sys.stdout.write(json.dumps(_measure(key, Path(subject), Path(folder), int(batch), int(threads))) + "\n")
