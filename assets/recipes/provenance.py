"""Where a stored number comes from: command, commit, date, hardware and library versions."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import diffusers
import torch

ROOT = Path(__file__).resolve().parents[2]


def made_by(command: str) -> dict[str, str]:
    """What to store beside a result so that anyone can make it again."""
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "command": command,
        "commit": answer.stdout.strip() or "unknown",
        "date": datetime.date.today().isoformat(),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": f"torch {torch.__version__}, diffusers {diffusers.__version__}",
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote, or nothing where there is no such file yet."""
    return json.loads(path.read_text()) if path.is_file() else {}
