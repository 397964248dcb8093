"""A tab that is closed while a model learns its rounding: others notice nothing, the work ends, so does the process."""

import json
import signal
import time
import urllib.request
from threading import Thread

import pytest

from tests.load.server import ask, events, new_session, post, served

AT_ONCE = 2.0  # seconds in which somebody else is answered
SOON = 60.0
IDLE = 0.2  # seconds of processor time in a second


@pytest.fixture(scope="module")
def running(model_folder, tmp_path_factory):
    """The app with a tiny model whose learning takes minutes: as many pictures as the method asks for."""
    with served(tmp_path_factory.mktemp("served"), env={"PTQ4DIT_MODEL": str(model_folder)}) as app:
        ask(app.url, "generate", 0, 0, 2, 4.0, "ddim", "W4A8", True, True, 1, "simulated", timeout=120)
        yield app


def begin_learning(app, method):
    """Press Run of the Methods tab in a tab of its own; returns once the model is being learned, with the stream."""
    config = app.config()
    number = next(d["id"] for d in config["dependencies"] if d["targets"] and targets(config, d) == "methods-run")
    inputs = next(d for d in config["dependencies"] if d["id"] == number)["inputs"]
    values = {c["id"]: c["props"].get("value") for c in config["components"]}
    data = [method, "rtn", *(values[one] for one in inputs[2:])]
    session = new_session()
    status, answer = post(
        f"{app.url}/gradio_api/queue/join", {"data": data, "fn_index": number, "session_hash": session}
    )
    assert status == 200, answer
    stream = events(app.url, session)
    prepared = 0
    for message in stream:
        assert message["msg"] != "process_completed", message
        prepared += prepared > 0 or "Preparing" in json.dumps(message)
        if prepared == 5:  # words about how far it is: a thread is at it
            return stream
    raise AssertionError("It never began to learn.")


def targets(config, dependency):
    """The `elem_id` of the component that sets an event off."""
    ids = [one for one, _ in dependency["targets"]]
    return next((c["props"].get("elem_id") for c in config["components"] if c["id"] in ids), None)


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
