"""Take the README's screenshots of a running app, with Playwright and the system's Chromium.

python app.py & python assets/recipes/screenshots.py
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from provenance import ROOT

VIEWS = {  # name -> (query, width, height, theme)
    "inspect": ("?tab=inspect", 1280, 1400, "light"),
    "learn": ("?tab=learn", 1280, 900, "dark"),
}
SHOWN = 1800, 500, 2600  # milliseconds: broken, the button pressed, balanced


def shoot(browser: Browser, url: str, query: str, width: int, height: int, theme: str) -> Image.Image:
    """One view, once its charts are drawn."""
    with opened(browser, f"{url}/{query}", width, height, theme) as page:
        page.wait_for_timeout(8000)  # the heartbeat never lets the network rest
        return taken(page)


def balanced(browser: Browser, url: str) -> list[Image.Image]:
    """Start as it opens, its button under the pointer, and what that brings."""
    with opened(browser, url, 1280, 860, "light") as page:
        button = page.locator("#start").get_by_role("button", name="Balance the channels")
        button.wait_for()
        page.wait_for_timeout(2000)
        frames = [taken(page)]
        button.hover()
        frames.append(taken(page))
        button.click()
        page.locator("#start").get_by_role("button", name="See it unbalanced again").wait_for()
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        return [*frames, taken(page)]


@contextmanager
def opened(browser: Browser, address: str, width: int, height: int, theme: str) -> Iterator[Page]:
    """A page of its own."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#tabs")
    yield page
    context.close()


def taken(page: Page) -> Image.Image:
    """The page as it is."""
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "screenshots")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (query, width, height, theme) in VIEWS.items():
            shoot(browser, args.url, query, width, height, theme).save(args.out / f"{name}.webp", quality=88)
        first, *others = (frame.resize((960, 645), Image.Resampling.LANCZOS) for frame in balanced(browser, args.url))
        given = {"save_all": True, "append_images": others, "duration": SHOWN, "loop": 0, "quality": 80, "method": 6}
        first.save(args.out / "start.webp", **given)
        browser.close()


if __name__ == "__main__":
    main()
