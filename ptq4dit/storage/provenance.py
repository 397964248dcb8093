"""Where a measurement comes from: commit, date, processor, threads, versions."""

import datetime
import importlib.metadata
import os
import platform
import shlex
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


def portable_source(source: str) -> str:
    """Where a model came from, without the folders of this machine: relative to the present one, or its bare name."""
    path = Path(source)
    if not path.is_absolute():
        return source
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def portable_command(command: str) -> str:
    """A command line without the folders of this machine, each argument, or what is behind its ``=``, on its own."""
    try:
        typed = shlex.split(command)
    except ValueError:  # an apostrophe of words that nobody quoted
        typed = command.split()
    portable = [_portable(argument) for argument in typed]
    return command if portable == typed else shlex.join(portable)


def _portable(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return f"{name}={portable_source(value)}" if equals and name.startswith("-") else portable_source(argument)


def made_by(command: str, threads: int) -> dict[str, Any]:
    """What to store beside a result so that anyone can make it again; no path of this machine is in it."""
    here = Path(__file__).resolve().parent
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True)
    return {
        "command": portable_command(command),
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
