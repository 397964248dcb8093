"""What the server keeps of its visitors is small and bounded, and what somebody waits for is not given up."""

import os
import time
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from app.server import sessions
from app.server.sessions import Mailboxes, Session, Sessions, remove_empty_folders

pytestmark = pytest.mark.alone


@pytest.fixture
def blocks():
    with gr.Blocks() as page:
        gr.State([1])
        gr.Dropdown(["a", "b"], value="a")
    page.state_session_capacity = 2
    return page


def test_a_session_is_gradios_without_its_copy_of_the_configuration(blocks):
    ours, theirs = Session(blocks), SessionState(blocks)
    assert vars(ours).keys() == vars(theirs).keys()
    assert theirs.config_values and not ours.config_values
    number = next(one for one, block in blocks.blocks.items() if isinstance(block, gr.Dropdown))
    ours[number] = gr.Dropdown(["c"])
    ours._update_value_in_config(number, "c")
    ours._update_config(number)
    assert ours[number].choices == [("c", "c")] and not ours.config_values
    assert blocks.blocks[number].choices == [("a", "a"), ("b", "b")]
    state = next(one for one, block in blocks.blocks.items() if isinstance(block, gr.State))
    ours[state].append(2)
    assert ours[state] == [1, 2] and Session(blocks)[state] == [1]


def test_the_session_seen_least_lately_gives_way(blocks):
    holder = Sessions()
    holder.set_blocks(blocks)
    first = holder["one"]
    assert holder["two"] is not first and holder["one"] is first
    assert isinstance(holder["three"], Session) and set(holder.session_data) == {"one", "three"}


@pytest.fixture
def queue():
    return SimpleNamespace(pending_event_ids_session={}, event_ids_to_events={})


def test_of_too_many_mailboxes_the_oldest_idle_one_goes(queue, monkeypatch):
    monkeypatch.setattr(sessions, "SESSIONS", 2)
    boxes = Mailboxes(queue)
    boxes["waits"], queue.pending_event_ids_session["waits"] = "box", {"event"}
    queue.event_ids_to_events["event"] = object()
    boxes["idle"], queue.pending_event_ids_session["idle"] = "box", {"done"}
    boxes["new"] = "box"
    assert set(boxes) == {"waits", "new"} and set(queue.pending_event_ids_session) == {"waits"}
    del boxes["gone"]  # as gradio does when a visitor has left in the meantime


def test_what_nobody_fetches_is_forgotten_and_what_is_awaited_stays(queue, monkeypatch):
    boxes = Mailboxes(queue)
    for name in ("unread", "waits", "read"):
        boxes[name] = "box"
        queue.pending_event_ids_session[name] = {name}
    queue.event_ids_to_events["waits"] = object()
    later = time.monotonic() + sessions.UNREAD + 1
    monkeypatch.setattr(sessions.time, "monotonic", lambda: later)
    assert boxes["read"] == "box"
    boxes.sweep()
    assert set(boxes) == {"waits", "read"} and "unread" not in queue.pending_event_ids_session


def test_empty_folders_go_and_others_stay(tmp_path):
    for name in ("old", "full", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "file").write_bytes(b"x")
    for name in ("old", "full"):
        os.utime(tmp_path / name, (time.time() - 100,) * 2)
    remove_empty_folders(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "new"]
