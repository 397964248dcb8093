"""A tab that is closed while a model learns its rounding: others notice nothing, the work ends, so does the process."""

import signal
import time
import urllib.request
from threading import Thread

import pytest

from tests.load.server import ask, begin_learning, served

pytestmark = pytest.mark.alone

AT_ONCE = 2.0  # seconds in which somebody else is answered
SOON = 180.0
IDLE = 0.2  # seconds of processor time in a second


def open_and_close(app, method):
    """A tab in which learning begins and that is closed then."""
    begin_learning(app, method).close()


def idle(app):
    """Whether the process has next to nothing to do."""
    before = app.worked()
    time.sleep(1)
    return app.worked() - before < IDLE


@pytest.mark.parametrize("method", ["gptq", "ours"])
def test_closing_the_tab_disturbs_nobody_and_ends_the_work(running, method):
    open_and_close(running, method)
    for _ in range(5):
        begun = time.monotonic()
        urllib.request.urlopen(running.url, timeout=30).close()
        assert isinstance(ask(running.url, "layers", timeout=30)[0], list)
        assert time.monotonic() - begun < 2 * AT_ONCE  # a page and a look-up
    end = time.monotonic() + SOON
    while not idle(running):
        assert time.monotonic() < end
    assert "Traceback" not in running.told()


def test_the_process_ends_at_once_while_something_is_learned(model_folder, tmp_path):
    with served(tmp_path, env={"PTQ4DIT_MODEL": str(model_folder)}) as app:
        stream = begin_learning(app, "ours")
        Thread(target=lambda: [None for _ in stream], daemon=True).start()
        begun = time.monotonic()
        app.process.send_signal(signal.SIGTERM)
        app.process.wait(timeout=30)
        assert time.monotonic() - begun < 5
