"""Measure how soon Inspect answers on a model of DiT-XL/2's shape: 28 blocks of 1,152 channels, random weights.

    python assets/recipes/feel_xl.py

The model is made, calibrated at ten timesteps and opened as anybody's is; changes are timed in Chromium as `feel.py`
times them. `--folder` keeps the model, 2.7 GB, for the next time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import full_size
from feel import WARM, Summary, answered, resident, served, summary
from feel_changes import bits, choose, clock, layer, open_tab, says, scrub
from playwright.sync_api import Page, sync_playwright
from provenance import ROOT, made_by, write_json

sys.path.insert(0, str(ROOT))

COMMAND = "python assets/recipes/feel_xl.py"
TARGET = ROOT / "assets" / "demo" / "results" / "feel_xl.json"
BARS = {"layer_p95_ms": 400.0}
TIMESTEPS = 10
ROLES = ("qkv", "proj", "fc1", "fc2")
LAYERS = [f"blocks.{block}.{role}" for block in range(28) for role in ROLES]


def made(folder: Path) -> Path:
    """The calibrated model in a folder, made where it is not there yet."""
    import ptq4dit

    model = folder / "float"
    if not model.exists():
        full_size.build(folder)
    calibration = model / "calibration.safetensors"
    if not calibration.exists():
        config = ptq4dit.CalibrationConfig(timesteps=TIMESTEPS, samples_per_timestep=1, steps=TIMESTEPS, seed=0)
        ptq4dit.calibrate(ptq4dit.load(model), config).save(calibration)
    return model


def changes(page: Page, url: str, model: str) -> dict[str, Summary]:
    """Milliseconds of each kind of change, by its name."""
    open_tab(page, url, f"inspect&model={model}", '.inspector[aria-busy="false"]')
    timed = clock(page, "#inspector")
    others = [name for name in LAYERS if name != "blocks.2.fc1"]
    found = {"layer, first time": timed(map(layer, others[::2]))}
    found["layer, again"] = timed(map(layer, others[::2]))
    page.evaluate(choose(layer="blocks.2.fc1"))
    found["timestep"] = timed(scrub(step) for step in [*range(1, TIMESTEPS), *range(TIMESTEPS - 1)] * 2)
    found["channel"] = timed((choose(channel=n), says("channels", f"Channel {n}:")) for n in range(0, 1152, 29))
    found["bits, again"] = timed(bits(*one) for one in [(8, 8), (4, 8)] * 10)
    return {name: summary(waits) for name, waits in found.items()}


def measured(model: Path) -> dict[str, Any]:
    """Start, changes and memory of the app with the model open."""
    with sync_playwright() as playwright, served(str(model)) as (process, url):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        answered(url)
        time.sleep(WARM)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        found = changes(page, url, model.name)
        browser.close()
        held = round(resident(process))
    slowest = max(one["p95"] for name, one in found.items() if name.startswith("layer"))
    return {"changes_ms": found, "layer_p95_ms": slowest, "memory_mb": held}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the model is or is to be; a temporary one if not given")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(made(given or Path(scratch)))
    missed = [name for name, bar in BARS.items() if found[name] > bar]
    how = {"weights": "random, seed 0", "sizes": full_size.SIZES, "timesteps": TIMESTEPS}
    write_json(TARGET, {"made": made_by(COMMAND) | how, "bars": BARS, "missed": missed, **found})
    print(json.dumps(found, indent=1))
    print("Missed: " + ", ".join(missed) if missed else "Every bar is met.")


if __name__ == "__main__":
    main()
