"""The app in a process of its own, and a browser in which an error, logged or told, or a request to elsewhere fails."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from app.components.part import script
from app.page import title

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60_000  # milliseconds for whatever a test waits for; a busy machine is not a failure
QUIET = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
)
# Whether the selection is what the address asked for: the page has its own until the server has read that.
AS_ASKED = """path => [...new URLSearchParams(path)].every(([name, asked]) => {
  const now = ptq4dit.selection[name];
  return now === undefined || [String(now), String(Number(now))].includes(asked);
})"""
# Tells of every error message that Gradio shows, however briefly.
WATCH_TOASTS = """
new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes) {
    if (node.nodeType !== 1) continue;
    const found = node.matches('.toast-body.error') ? [node] : node.querySelectorAll('.toast-body.error');
    for (const toast of found) window.toldOfError(toast.innerText);
  }
}).observe(document, { subtree: true, childList: true });
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory, request):
    """The demo model, or a tiny random one in a checkout that lacks it."""
    demo = ROOT / "assets" / "demo"
    if (demo / "calibration.safetensors").is_file():
        return demo
    from diffusers import DiTPipeline

    import ptq4dit

    dit = request.getfixturevalue("dit")
    folder = tmp_path_factory.mktemp("model")
    DiTPipeline(transformer=dit.transformer, vae=dit.vae, scheduler=dit.scheduler).save_pretrained(folder)
    config = ptq4dit.CalibrationConfig(timesteps=4, samples_per_timestep=2, steps=4)
    ptq4dit.calibrate(ptq4dit.load(folder), config).save(folder / "calibration.safetensors")
    return folder


@pytest.fixture(scope="session")
def server(model, tmp_path_factory):
    """Address of the running app."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    settings = {"PTQ4DIT_MODEL": str(model), "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    settings["PYTHONFAULTHANDLER"] = "1"  # a crash of a native library says where
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=os.environ | settings, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield _answering(f"http://127.0.0.1:{port}", process, log)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _answering(address, process, log):
    """The address, once the app answers there."""
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return address
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"The app did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def browser():
    """Chromium: the system's, or the one that Playwright installed. Without either, skipped, but never in CI."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        except Error as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"No Chromium here; `playwright install chromium` brings one. {error}")
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, server):
    """Open a path of the app: `open_page("?tab=inspect", width=375, theme="dark")`.

    Fails on errors that the browser logs, on error messages that the page shows (`open_page.expected` holds parts of
    those that a test provokes; `open_page.refused` says that it asks what is refused beside its control), and on
    requests to elsewhere.
    """
    with opening(browser, server) as open_:
        yield open_


@pytest.fixture(scope="module")
def kept(browser, server):
    """What opens the pages that tests of a module share."""
    with opening(browser, server) as open_:
        yield open_


@pytest.fixture
def one_page(kept, request):
    """A page that tests of a module share: `one_page("?strength=8", tab="inspect", width=375, channel=5)`.

    The first call for a path opens it, the others bring it back: in this look, on this tab, with the selection as it
    was at first but for what is named. What goes wrong on it fails the test that it happens in. A test that fails, or
    sets `one_page.spent`, leaves a page that nobody uses again; `expected` and `refused` are as for `open_page`.
    """
    failed, one = request.session.testsfailed, partial(_brought_back, kept)
    one.expected, one.refused, one.spent = [], False, False
    yield one
    kept.expected, kept.refused = one.expected, one.refused
    if one.spent or request.session.testsfailed > failed:
        kept.pages.clear()
    kept.judge()
    kept.expected, kept.refused = [], False


def _brought_back(kept, path="", *, tab, width=1280, theme="light", **selection):
    """The kept page of this path, as `one_page` says."""
    if path not in kept.pages:
        page = kept.pages[path] = kept(path, width=width, theme=theme)
        page.wait_for_function("'opened' in document.documentElement.dataset && ptq4dit.selection.weight_bits")
        page.wait_for_function(AS_ASKED, arg=path)
        page.at_first = page.evaluate("ptq4dit.selection")
    page = kept.pages[path]
    at_rest(page)
    look(page, width=width, theme=theme)
    page.evaluate("wanted => { document.activeElement.blur(); ptq4dit.set(wanted); }", page.at_first | selection)
    go_to(page, tab)
    at_rest(page)
    return page


def go_to(page, tab):
    """Open a tab as the page's own links do."""
    page.evaluate(script("go_to_tab"), title(tab))
    page.wait_for_function("tab => (new URLSearchParams(location.search).get('tab') ?? 'start') === tab", arg=tab)


def look(page, *, width, theme):
    """Give an open page another width, and another theme as the visitor's system would."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)
    page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=theme == "dark")


@contextmanager
def opening(browser, server):
    """What `open_page` gives, for as long as the caller wants: the pages are closed, and judged, at the end."""
    contexts, wrong, told = [], [], []

    def watch(page):
        page.on_its_way = set()
        page.on("request", lambda one: None if "/heartbeat/" in one.url else page.on_its_way.add(one))
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda one: page.on_its_way.discard(one))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: None if _own(request.url, server) else wrong.append(request.url))

    def open_(path="", width=1280, theme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.expose_binding("toldOfError", lambda _, text: told.append(text))
        context.add_init_script(WATCH_TOASTS)
        page = context.new_page()
        watch(page)
        page.goto(f"{server}/{path}")
        page.wait_for_selector("#tabs")
        return page

    def judge():
        """Fail on what went wrong since it was last asked."""
        logged, said = list(wrong), list(told)
        wrong.clear()
        told.clear()
        if open_.refused:  # the browser logs the status of a question that is refused before it waits
            logged = [text for text in logged if "422" not in text]
        assert not logged, logged
        unforeseen = [text for text in said if not any(part in text for part in open_.expected)]
        assert not unforeseen, unforeseen
        missing = [part for part in open_.expected if not any(part in text for text in said)]
        assert not missing, missing

    open_.expected, open_.refused, open_.judge, open_.pages = [], False, judge, {}
    try:
        yield open_
    finally:
        for context in contexts:
            context.close()
    judge()


def at_rest(page):
    """Wait until for half a second nothing has been on its way to or from the server; its heartbeat never ends."""
    end, still = time.monotonic() + PATIENCE / 1000, 0
    while still < 5:
        page.wait_for_timeout(100)
        still = 0 if page.on_its_way else still + 1
        assert time.monotonic() < end, [one.url for one in page.on_its_way]


def _own(url, server):
    """Whether a request stays with the app."""
    return url.startswith((server, "data:", "blob:"))
