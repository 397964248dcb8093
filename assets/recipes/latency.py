"""Measure how fast the app answers: each change from click to new picture in Chromium, and 20 visitors at once.

python app.py & python assets/recipes/latency.py

Writes assets/demo/results/latency.json: milliseconds, median and 95th percentile. In the browser the clock runs from
the click until a frame with the new picture has been painted; for the visitors from question to answer over HTTP, while
one more generates pictures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import Any

from gradio_client import Client
from playwright.sync_api import Page, sync_playwright
from provenance import ROOT, made_by, write_json

COMMAND = "python app.py & python assets/recipes/latency.py"
TARGET = ROOT / "assets" / "demo" / "results" / "latency.json"
LAYERS = [f"blocks.{block}.{role}" for block in range(8) for role in ("qkv", "proj", "fc1", "fc2")]
VISITORS, TURNS = 20, 10
CLOCK = """async ([act, done]) => {
  const begin = performance.now();
  eval(act);
  while (!eval(done)) await new Promise((go) => setTimeout(go, 2));
  await new Promise((go) => requestAnimationFrame(() => setTimeout(go, 0)));
  return performance.now() - begin;
}"""


def reading(name: str) -> str:
    return f"document.querySelector('[data-reading={name}]').textContent"


def layer(name: str) -> tuple[str, str]:
    return f"document.querySelector('.map [data-layer=\"{name}\"]').click()", f"{reading('summary')}.includes('{name}')"


def timestep(step: int) -> tuple[str, str]:
    moved = "s.dispatchEvent(new Event('input', {bubbles: true}))"
    move = f"const s = document.querySelector('[data-scrub]'); s.value = {step}; {moved}"
    return move, f"document.querySelector('[data-scrub]').value === '{step}'"


def channel(number: int) -> tuple[str, str]:
    return f"ptq4dit.set({{channel: {number}}})", f"{reading('channels')}.includes('Channel {number}:')"


def switch(on: bool) -> tuple[str, str]:
    variant = "csb" if on else "none"
    pressed = "document.querySelector('.variant[aria-pressed=true]').dataset.variant"
    return "document.querySelector('#bar [data-field=csb]').click()", f"{pressed} === '{variant}'"


def bits(weight: int) -> tuple[str, str]:
    return f"ptq4dit.set({{weight_bits: {weight}}})", f"{reading('effect')}.includes('At W{weight}A8')"


def picture(on: bool) -> tuple[str, str]:
    tag = "document.querySelector('#start .wipe-part .tag.right').textContent"
    return (
        "document.querySelector('#start .switchboard-part [data-name=csb]').click()",
        f"{tag}.includes('CSB') === {str(on).lower()}",
    )


def in_browser(page: Page, url: str) -> dict[str, list[float]]:
    def timed(changes: list[tuple[str, str]]) -> list[float]:
        return [page.evaluate(CLOCK, list(change)) for change in changes]

    page.goto(f"{url}/?tab=inspect")
    page.wait_for_selector('.inspector[aria-busy="false"]', timeout=120_000)
    time.sleep(20)  # the warm-up behind the page has gone over all layers
    chosen = [name for name in LAYERS if name != "blocks.2.fc1"]
    found = {"layer, first time": timed([layer(name) for name in chosen])}
    found["layer, again"] = timed([layer(name) for name in LAYERS])
    page.evaluate("ptq4dit.set({layer: 'blocks.2.fc1'})")
    time.sleep(1)
    found["timestep"] = timed([timestep(step) for step in [*range(1, 25), *range(24)]])
    found["channel"] = timed([channel(number) for number in range(40)])
    found["switch CSB"] = timed([switch(bool(turn % 2)) for turn in range(40)])
    found["bits, first time"] = timed([bits(weight) for weight in (2, 3, 5, 6, 7, 8)])
    found["bits, again"] = timed([bits(weight) for weight in (2, 3, 5, 6, 7, 8) * 4])
    page.get_by_role("tab", name="Start").click()
    page.wait_for_selector("#start .wipe-part img.under")
    found["switch on Start"] = timed([picture(bool(turn % 2)) for turn in range(40)])
    return found


def many_visitors(url: str) -> list[float]:
    """Milliseconds of each answer while 20 ask for layers and one generates."""
    client, finished = Client(url, verbose=False), Event()
    component = next(c["id"] for c in client.config["components"] if c["props"].get("elem_id") == "inspector")

    def generate() -> None:
        while not finished.is_set():
            client.predict(api_name="/generate")

    def visit(visitor: int) -> list[float]:
        waits = []
        for turn in range(TURNS):
            name = LAYERS[(7 * visitor + 5 * turn) % len(LAYERS)]
            begin = time.perf_counter()
            answer = _ask(url, component, f"visitor{visitor}", "layer", [name, 1])
            _ask(url, component, f"visitor{visitor}", "effect", [name, 4, 8, 1])
            waits.append(1000 * (time.perf_counter() - begin))
            if answer.get("layer") != name:
                raise ValueError(f"expected the answer of {name}; got that of {answer.get('layer')!r}")
            time.sleep(0.5)
        return waits

    generating = Thread(target=generate)
    generating.start()
    with ThreadPoolExecutor(VISITORS) as pool:
        waits = [wait for one in pool.map(visit, range(VISITORS)) for wait in one]
    finished.set()
    generating.join()
    return waits


def _ask(url: str, component: int, session: str, name: str, question: list[Any]) -> dict[str, Any]:
    body = {"session_hash": session, "component_id": component, "fn_name": name, "data": question}
    request = urllib.request.Request(
        f"{url}/gradio_api/component_server/", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def summary(waits: list[float]) -> dict[str, float]:
    ordered = sorted(waits)
    return {
        "count": len(waits),
        "median": round(statistics.median(waits), 1),
        "p95": round(ordered[max(0, round(0.95 * len(waits)) - 1)], 1),
        "most": round(ordered[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        found = in_browser(browser.new_page(viewport={"width": 1280, "height": 900}), args.url)
        browser.close()
    found[f"{VISITORS} visitors, a layer each, while one generates"] = many_visitors(args.url)
    result = {"made": made_by(COMMAND), "milliseconds": {name: summary(waits) for name, waits in found.items()}}
    write_json(TARGET, result)
    for name, numbers in result["milliseconds"].items():
        print(f"{name}: median {numbers['median']} ms, p95 {numbers['p95']} ms, n {numbers['count']}")


if __name__ == "__main__":
    main()
