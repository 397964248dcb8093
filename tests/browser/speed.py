"""Measure how the app feels: start, clicks, twenty visitors at once, a comparison, memory; writes JSON.

python tests/browser/speed.py [--out assets/demo/results/feel.json] [--minutes 5]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from gradio_client import Client
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
BARS = {
    "first_page_s": 4.0,
    "click_p95_ms": 250.0,
    "visitors_p95_ms": 1000.0,
    "comparison_s": 2.0,
    "comparison_first_picture_s": 0.5,
}
VISITORS, CLICKS, LOOKS = 20, 40, 6
# Resolves with the milliseconds from choosing an option of the bar to the next change of what `shown` selects.
CHANGE = """([field, value, shown]) => new Promise((resolve, reject) => {
  const own = shown === '#start .wipe-part';  // Start has its own switches under the picture
  const control = document.querySelector(own ? `#start [data-name="${field}"]` : `#bar [data-field="${field}"]`);
  const target = document.querySelector(shown);
  const begun = performance.now();
  const seen = new MutationObserver(() => { seen.disconnect(); resolve(performance.now() - begun); });
  seen.observe(target, { subtree: true, childList: true, attributes: true, characterData: true });
  if (own || control.type === 'checkbox') control.click();
  else { control.value = value; control.dispatchEvent(new Event('change', { bubbles: true })); }
  setTimeout(() => { seen.disconnect(); reject(new Error(`${field}: nothing changed in 10 s`)); }, 10000);
})"""


def serve() -> tuple[subprocess.Popen[bytes], str, float]:
    """The app's process, its address, and the seconds until it answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    begun, silent = time.monotonic(), subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=os.environ | settings, stdout=silent, stderr=silent
    )
    address = f"http://127.0.0.1:{port}"
    while process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=30).close()
            return process, address, time.monotonic() - begun
        except OSError:
            time.sleep(0.02)
    raise SystemExit("The app did not start.")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def first_page(browser: Browser) -> float:
    """Seconds from starting the process to a page whose first picture is there."""
    begun = time.monotonic()
    process, address, _ = serve()
    try:
        page = browser.new_page()
        page.goto(address)
        page.locator("#start .wipe-part img.over").wait_for()
        seconds = time.monotonic() - begun
        page.close()
        return seconds
    finally:
        stop(process)


def clicks(browser: Browser, address: str) -> dict[str, list[float]]:
    """Milliseconds from a choice in the bar to the change on Inspect and on Start, by what was chosen."""
    found: dict[str, list[float]] = {}
    changes = [
        ("inspect", "layer", [f"blocks.{i % 8}.{role}" for i, role in enumerate(["qkv", "fc1", "proj", "fc2"] * 10)]),
        ("inspect", "timestep", [str(n) for n in range(20, 1000, 25)]),
        ("inspect", "channel", [str(n) for n in range(1, 41)]),
        ("inspect", "csb", ["on"] * 20),
        ("start", "csb", ["on"] * 20),
    ]
    for tab, field, values in changes:
        page = browser.new_page()
        page.goto(f"{address}/?tab={tab}")
        page.locator("#inspector svg" if tab == "inspect" else "#start .wipe-part img.over").first.wait_for()
        page.wait_for_timeout(3000)
        for value in values[:CLICKS]:
            found.setdefault(f"{tab} {field}", []).append(changed(page, tab, field, value))
            page.wait_for_timeout(60)
        page.close()
    return found


def changed(page: Page, tab: str, field: str, value: str) -> float:
    """Milliseconds until what the tab shows changes after a choice."""
    return float(page.evaluate(CHANGE, [field, value, "#inspector" if tab == "inspect" else "#start .wipe-part"]))


def visitors(address: str) -> tuple[list[float], list[str]]:
    """Milliseconds of look-ups by twenty programs at once while one generates, and what went wrong."""
    took: list[float] = []
    wrong: list[str] = []
    lock, done = threading.Lock(), threading.Event()

    def generate() -> None:
        client = Client(address, verbose=False)
        while not done.is_set():
            client.predict(seed=int(time.time()), steps=25, api_name="/compare")

    def look(number: int) -> None:
        client = Client(address, verbose=False)
        for round_ in range(LOOKS):
            layer = f"blocks.{(number + round_) % 8}.{('qkv', 'proj', 'fc1', 'fc2')[number % 4]}"
            begun = time.monotonic()
            try:
                answer = client.predict(layer=layer, timestep=25 * number, api_name="/layer_salience")
            except Exception as error:  # whatever a visitor would have met counts
                wrong.append(f"{type(error).__name__}: {error}")
                continue
            with lock:
                took.append(1000 * (time.monotonic() - begun))
            if answer["layer"] != layer:
                wrong.append(f"asked for {layer}, got {answer['layer']}")
            time.sleep(0.5)

    maker = threading.Thread(target=generate)
    maker.start()
    crowd = [threading.Thread(target=look, args=(number,)) for number in range(VISITORS)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    done.set()
    maker.join()
    return took, wrong


def comparison(browser: Browser, address: str) -> tuple[list[float], list[float]]:
    """Seconds from Generate to the first picture and to the end, of 25 steps three ways, integer where there is one."""
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{address}/?tab=compare&steps=25")
    page.locator("#compare-generate").wait_for()
    page.wait_for_timeout(2000)
    first, whole = [], []
    for seed in range(4):
        field = page.locator("#bar").get_by_label("Seed")
        field.fill(str(seed))
        field.press("Enter")
        page.wait_for_timeout(500)
        old = page.evaluate("document.querySelector('#compare-cards img')?.src ?? ''")
        begun = time.monotonic()
        page.locator("#compare-generate").click()
        page.wait_for_function(
            "o => { const i = document.querySelector('#compare-cards img'); return i && i.src !== o }", arg=old
        )
        first.append(time.monotonic() - begun)
        note = "document.querySelector('#compare-progress .note').textContent.startsWith('Finished')"
        page.wait_for_function(note)
        whole.append(time.monotonic() - begun)
        page.wait_for_timeout(5000)  # its zip is written; a click before that is not taken
    page.close()
    return first[1:], whole[1:]  # the first run makes what nobody asked for yet


def resident(process: subprocess.Popen[bytes]) -> float:
    """Megabytes that the server's process holds."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def memory(process: subprocess.Popen[bytes], address: str, minutes: float) -> list[float]:
    """Megabytes held, after every tenth of the given time of generating and looking up."""
    client, held, seed = Client(address, verbose=False), [resident(process)], 0
    for _ in range(10):
        end = time.monotonic() + 6 * minutes
        while time.monotonic() < end:
            seed += 1
            client.predict(seed=seed, class_id=seed % 10, steps=10, api_name="/compare")
            client.predict(layer=f"blocks.{seed % 8}.fc1", api_name="/layer_error")
        held.append(resident(process))
    return held


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, round(share * len(values)))]


def report(minutes: float) -> dict[str, Any]:
    """Every number of the table."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        pages = [first_page(browser) for _ in range(4)][1:]  # the first one warms the disk
        process, address, _ = serve()
        try:
            Client(address, verbose=False).predict(layer="blocks.0.fc1", api_name="/layer_error")
            time.sleep(25)  # what is made ready in the background is ready
            by_click = clicks(browser, address)
            first, whole = comparison(browser, address)
            browser.close()
            took, wrong = visitors(address)
            held = memory(process, address, minutes)
        finally:
            stop(process)
    every = [value for values in by_click.values() for value in values]
    return {
        "first_page_s": round(statistics.median(pages), 2),
        "click_p95_ms": round(percentile(every, 0.95), 1),
        "click_p95_ms_each": {name: round(percentile(values, 0.95), 1) for name, values in by_click.items()},
        "click_p50_ms": round(statistics.median(every), 1),
        "clicks": len(every),
        "visitors": VISITORS,
        "visitors_p95_ms": round(percentile(took, 0.95), 1),
        "visitors_p50_ms": round(statistics.median(took), 1),
        "visitors_errors": wrong,
        "comparison_first_picture_s": round(statistics.median(first), 2),
        "comparison_s": round(statistics.median(whole), 2),
        "memory_mb": [round(megabytes) for megabytes in held],
        "memory_minutes": minutes,
    }


def made() -> dict[str, str]:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "command": "python tests/browser/speed.py",
        "commit": answer.stdout.strip() or "unknown",
        "date": datetime.date.today().isoformat(),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
        "backend": "integer",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "demo" / "results" / "feel.json")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long memory is watched")
    args = parser.parse_args()
    measured = report(args.minutes)
    load = round(os.getloadavg()[0], 1)
    content = {"made": made() | {"load_average": str(load)}, "bars": BARS, **measured}
    partial = args.out.with_name(args.out.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(args.out)
    print(json.dumps(measured, indent=1))
    missed = [name for name, bar in BARS.items() if measured[name] > bar]
    print("Missed: " + ", ".join(missed) if missed else "Every bar is met.")


if __name__ == "__main__":
    main()
