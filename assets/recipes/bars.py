"""Measure how the app feels: first page, change of layer or switch, three-way comparison. Writes `results/bars.json`.

python assets/recipes/bars.py
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict
from typing import Any

from provenance import ROOT, made_by, write_json

sys.path.insert(0, str(ROOT))

from app.services import generation
from app.services.models import explored, outline
from app.services.request import DEFAULT_BITS, Request, parse_variants
from app.state import Selection
from app.tabs import inspect_handlers

LOOK = ("activation", "one", "channel", "median")


def first_page() -> float:
    """Seconds from the start of the process to the answered page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=os.environ | settings, stdout=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=30).close()
                return time.monotonic() - begun
            except OSError:
                time.sleep(0.02)
    finally:
        process.terminate()
        process.wait()


def redraws() -> list[float]:
    """Seconds that the server takes for Inspect, after each change of layer and of a switch."""
    drawn: dict[str, Any] = {}
    seconds = []
    for index, layer in enumerate(outline().layers):
        for csb in (True, False):
            selection = Selection(layer=layer, csb=csb, ssc=csb and index % 2 == 0)
            begun = time.monotonic()
            drawn, *_ = inspect_handlers.draw(drawn, *asdict(selection).values(), *LOOK)
            seconds.append(time.monotonic() - begun)
    return seconds[1:]  # the first one draws the whole tab


def comparison(seed: int) -> tuple[float, float]:
    """Seconds to the first intermediate picture and to the end of a three-way comparison of 25 steps."""
    request = Request(class_id=3, seed=seed, steps=25, variants=parse_variants(DEFAULT_BITS, csb=True, ssc=True))
    begun, first = time.monotonic(), 0.0
    for frame in generation.run(request):
        if frame.pictures and not first:
            first = time.monotonic() - begun
    return first, time.monotonic() - begun


def percentile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, round(share * len(seconds)))]


def main() -> None:
    pages = [first_page() for _ in range(4)][1:]  # the first one warms the disk
    explored()
    inspect_handlers.draw({}, *asdict(Selection()).values(), *LOOK)
    changes = redraws()
    cold, *warm = [comparison(seed) for seed in range(4)]
    report = {
        "first_page_s": statistics.median(pages),
        "inspect_change_p50_s": statistics.median(changes),
        "inspect_change_p95_s": percentile(changes, 0.95),
        "comparison_first_picture_s": statistics.median(first for first, _ in warm),
        "comparison_s": statistics.median(total for _, total in warm),
        "comparison_with_quantizing_s": cold[1],
    }
    report = {name: round(value, 3) for name, value in report.items()}
    out = ROOT / "assets" / "demo" / "results" / "bars.json"
    write_json(out, made_by("python assets/recipes/bars.py") | {"backend": "simulated"} | report)
    print(report)


if __name__ == "__main__":
    main()
