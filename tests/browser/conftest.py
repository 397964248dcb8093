"""The app served for real, and a browser that lets nothing pass: console errors, page errors, requests to elsewhere."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240


@pytest.fixture(scope="session")
def app_url(tmp_path_factory):
    """The address of `python app.py`, run in a process of its own for as long as the tests last."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    log = tmp_path_factory.mktemp("app") / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=os.environ | settings, stdout=out, stderr=subprocess.STDOUT
        )
        url = f"http://127.0.0.1:{port}/"
        try:
            _wait(url, process, log)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait(url, process, log):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"no page after {PATIENCE} s\n{log.read_text()}")


@pytest.fixture(scope="session")
def browser():
    """Chromium: the system's, or the one that `playwright install chromium` brought."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(app_url, browser):
    """`open_page(query="", width=1280, theme="light")`: the page, which must stay free of errors until the test ends."""
    wrong, contexts = [], []

    def watch(page):
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        inside = (app_url, "data:", "blob:")
        page.on("request", lambda request: request.url.startswith(inside) or wrong.append(f"fetched {request.url}"))

    def open_(query="", width=1280, theme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        watch(page)
        page.goto(app_url + query)
        page.wait_for_selector("#tabs")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not wrong, wrong
