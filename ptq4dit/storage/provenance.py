"""Where a measurement comes from: commit, date, processor, threads, versions."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "diffusers", "openvino", "nncf", "torchao", "onnxruntime", "onnx")
_FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


_FORMER = 32
"""Digits of a model's fingerprint in files of before it had a sum of all weights behind a hyphen."""


def same_model(one: str | None, other: str | None) -> bool:
    """Whether two fingerprints in files are of one model, as far as the shorter one can tell; None is of none."""
    if one is None or other is None:
        return False
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) == _FORMER and long.startswith(f"{short}-"))


def made_by(command: str, threads: int) -> dict[str, Any]:
    """What to store beside a result so that anyone can make it again."""
    here = Path(__file__).resolve().parent
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True)
    return {
        "command": command,
        "commit": answer.stdout.strip() or "unknown",
        "date": datetime.date.today().isoformat(),
        "hardware": _processor() | {"cores": os.cpu_count(), "threads": threads},
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _processor() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return {"processor": platform.processor() or platform.machine(), "features": []}
    fields: dict[str, str] = dict(
        (line.split(":", 1)[0].strip(), line.split(":", 1)[1].strip())
        for line in info.read_text(encoding="utf-8").splitlines()
        if ":" in line
    )
    flags = fields.get("flags", "").split()
    return {
        "processor": fields.get("model name", platform.machine()),
        "features": [name for name in _FEATURES if name in flags],
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
