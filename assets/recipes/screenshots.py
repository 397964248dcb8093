"""Take the README's screenshots of a running app, with Playwright and the system's Chromium.

python app.py & python assets/recipes/screenshots.py
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from provenance import ROOT

VIEWS = {  # name -> (query, width, height, theme)
    "start": ("?tab=start", 1280, 860, "light"),
    "inspect": ("?tab=inspect", 1280, 1400, "light"),
    "learn": ("?tab=learn", 1280, 900, "dark"),
}


def shoot(browser: Browser, url: str, query: str, width: int, height: int, theme: str) -> Image.Image:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    page = context.new_page()
    page.goto(f"{url}/{query}")
    page.wait_for_selector("#tabs")
    page.wait_for_timeout(8000)  # charts are drawn; the heartbeat never lets the network rest
    picture = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "screenshots")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (query, width, height, theme) in VIEWS.items():
            shoot(browser, args.url, query, width, height, theme).convert("RGB").save(
                args.out / f"{name}.webp", quality=88
            )
        browser.close()


if __name__ == "__main__":
    main()
