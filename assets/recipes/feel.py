"""Measure how the app feels: start, every change, many visitors at once, a comparison, memory; writes feel.json.

python assets/recipes/feel.py

Changes and the comparison are timed in Chromium, from the click to the frame that shows the last of what is new; the
many visitors over HTTP, one of them in the browser. Everything runs on one machine: app, browser and visitors.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from feel_changes import LAYERS, TABS, clock, layer, open_tab
from gradio_client import Client
from playwright.sync_api import Browser, Page, sync_playwright
from provenance import ROOT, made_by, write_json

sys.path.insert(0, str(ROOT))

from app.services.calibrated import read_header

COMMAND = "python assets/recipes/feel.py"
TARGET = ROOT / "assets" / "demo" / "results" / "feel.json"
BARS = {
    "first_page_s": 3.0,
    "change_p95_ms": 250.0,
    "visitors_p95_ms": 1000.0,
    "comparison_s": 1.5,
    "first_picture_s": 0.5,
    "memory_growth_percent": 2.0,
}
VISITORS, TURNS = 20, 10
WARM = 25  # seconds after which what the app makes ready behind the first page is ready
Summary = dict[str, float]


@contextmanager
def served(*models: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The app in a process of its own, with models to open: it and its address, which may not answer yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    silent = subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, "app.py", *models], cwd=ROOT, env=os.environ | settings, stdout=silent, stderr=silent
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def answered(url: str) -> None:
    """Wait until the address answers."""
    for _ in range(3000):
        try:
            return urllib.request.urlopen(url, timeout=30).close()
        except OSError:
            time.sleep(0.02)
    raise SystemExit("The app did not start.")


def first_page(browser: Browser) -> float:
    """Seconds from starting the process to a painted page whose switches work."""
    begun = time.monotonic()
    with served() as (_, url):
        answered(url)
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("html[data-opened]", state="attached")
        page.evaluate("new Promise((go) => requestAnimationFrame(() => setTimeout(go, 0)))")
        seconds = time.monotonic() - begun
        page.close()
    return seconds


def many_visitors(browser: Browser, url: str) -> tuple[Summary, Summary]:
    """Milliseconds of each answer while 20 change layers and one generates; and of one more, in the browser."""
    client, finished = Client(url, verbose=False), Event()
    component = next(c["id"] for c in client.config["components"] if c["props"].get("elem_id") == "inspector")

    def generate() -> None:
        while not finished.is_set():
            client.predict(seed=int(time.time()), api_name="/compare")

    def visit(visitor: int) -> list[float]:
        waits = []
        for turn in range(TURNS):
            name = LAYERS[(7 * visitor + 5 * turn) % len(LAYERS)]
            begin = time.perf_counter()
            answer = ask(url, component, f"visitor{visitor}", "layer", ["demo", name, 8])
            ask(url, component, f"visitor{visitor}", "effect", ["demo", name, 4, 8, 8, False])
            waits.append(1000 * (time.perf_counter() - begin))
            if answer.get("layer") != name:
                raise ValueError(f"expected the answer of {name}; got that of {answer.get('layer')!r}")
            time.sleep(0.5)
        return waits

    page = browser.new_page(viewport={"width": 1280, "height": 900})
    open_tab(page, url, "inspect", '.inspector[aria-busy="false"]')
    generating = Thread(target=generate)
    generating.start()
    time.sleep(1)
    with ThreadPoolExecutor(VISITORS) as pool:
        crowd = [pool.submit(visit, number) for number in range(VISITORS)]
        painted = clock(page, "#inspector")(map(layer, (LAYERS * 2)[:-8:2]))
        waits = [wait for one in crowd for wait in one.result()]
    finished.set()
    generating.join()
    page.close()
    return summary(waits), summary(painted)


def ask(url: str, component: int, session: str, name: str, question: list[Any]) -> dict[str, Any]:
    """What Inspect's script asks the server."""
    body = {"session_hash": session, "component_id": component, "fn_name": name, "data": question}
    request = urllib.request.Request(
        f"{url}/gradio_api/component_server/", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def comparison(page: Page, url: str, runs: int = 6) -> tuple[list[float], list[float]]:
    """Seconds from Generate to the first picture and to the end: three ways, 25 steps, on integers."""
    first, whole = [], []
    for seed in range(1, runs + 1):
        page.goto(f"{url}/?tab=compare&steps=25&strength=1&seed={seed}")
        page.wait_for_selector("html[data-opened]", state="attached")
        page.wait_for_timeout(1500)
        began = page.evaluate(
            "() => { document.querySelector('#compare-generate').click(); return performance.now(); }"
        )
        seconds = "() => { if ({}) return performance.now(); }"
        pictures = page.wait_for_function(
            seconds.replace("{}", "document.querySelectorAll('#compare-cards .picture img').length === 3"),
        ).json_value()
        ended = page.wait_for_function(
            seconds.replace(
                "{}", "document.querySelector('#compare-progress .note').textContent.startsWith('Finished')"
            )
        ).json_value()
        first.append((pictures - began) / 1000)
        whole.append((ended - began) / 1000)
    return first[1:], whole[1:]  # the first one makes what nobody asked for yet


def resident(process: subprocess.Popen[bytes]) -> float:
    """Megabytes that the app's process holds."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def _bits(name: str, turn: int) -> list[Any]:
    """A question about a layer at bits and a dial that change from round to round."""
    return ["demo", name, 2 + turn % 7, 2 + turn % 5, (1, 2, 4, 8, 16)[turn % 5], False]


def memory(process: subprocess.Popen[bytes], url: str, rounds: int) -> list[int]:
    """Megabytes held at first and after each round: every layer at other bits, then five comparisons.

    The caches fill first; what is held may not grow from the middle to the end.
    """
    client, held = Client(url, verbose=False), [round(resident(process))]
    component = next(c["id"] for c in client.config["components"] if c["props"].get("elem_id") == "inspector")
    for turn in range(rounds):
        for name in LAYERS:
            ask(url, component, "memory", "layer", ["demo", name, (1, 2, 4, 8, 16)[turn % 5]])
            ask(url, component, "memory", "effect", _bits(name, turn))
        for number in range(5):
            client.predict(seed=5 * turn + number, class_id=number, steps=10, api_name="/compare")
        held.append(round(resident(process)))
    return held


def summary(waits: list[float]) -> Summary:
    """Count, median, 95th percentile and most."""
    ordered = sorted(waits)
    return {
        "count": len(waits),
        "median": round(statistics.median(waits), 1),
        "p95": round(ordered[max(0, round(0.95 * len(waits)) - 1)], 1),
        "most": round(ordered[-1], 1),
    }


def measured(rounds: int) -> dict[str, Any]:
    """Everything, and the bars that are not met."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        pages = [first_page(browser) for _ in range(6)][1:]  # the first one warms the disk
        with served() as (process, url):
            answered(url)
            time.sleep(WARM)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            changes = {name: summary(one) for tab in TABS for name, one in tab(page, url).items()}
            first, whole = comparison(page, url)
            page.close()
            answers, painted = many_visitors(browser, url)
            held = memory(process, url, rounds)
        browser.close()
    return {
        "first_page_s": round(statistics.median(pages), 2),
        "changes_ms": changes,
        "change_p95_ms": max(one["p95"] for one in changes.values()),
        "visitors_ms": {"answers": answers, "painted, one of them in a browser": painted},
        "visitors_p95_ms": max(answers["p95"], painted["p95"]),
        "first_picture_s": round(statistics.median(first), 2),
        "comparison_s": round(statistics.median(whole), 2),
        "memory_mb": held,
        "memory_growth_percent": round(100 * (held[-1] / held[len(held) // 2] - 1), 1),
        "memory_changes": 2 * len(LAYERS) * rounds,
        "memory_comparisons": 5 * rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60, help="of 64 look-ups and 5 comparisons, to watch memory")
    load = round(os.getloadavg()[0], 1)  # what else the machine was doing
    found = measured(parser.parse_args().rounds)
    missed = [name for name, bar in BARS.items() if found[name] > bar]
    header = read_header(ROOT / "assets" / "demo" / "calibration.safetensors")
    made = made_by(COMMAND) | {
        "model_fingerprint": header.model if header else "",
        "backend": "integer",
        "load_average_before": str(load),
    }
    write_json(TARGET, {"made": made, "bars": BARS, "missed": missed, **found})
    print(json.dumps(found, indent=1))
    print("Missed: " + ", ".join(missed) if missed else "Every bar is met.")


if __name__ == "__main__":
    main()
