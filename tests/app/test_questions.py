"""What is asked is checked by its shape and its sense before it waits, and what is unforeseen is told in our words."""

import inspect
import json
import logging
from types import SimpleNamespace

import gradio as gr
import pytest

from app.components.messages import UNFORESEEN
from app.server.guard import answering, guarded
from app.server.questions import LONGEST_TEXT, Questions
from app.state import ECHO, Selection, brief

GENERATE = [0, 0, 25, 4.0, "ddim", "W4A8", True, True, 1, "auto", "", "", False]
SCOPE = {"client": ("127.0.0.1", 1), "headers": []}


@pytest.fixture(scope="module")
def page():
    from app.page import build

    return build().queue(api_open=False)


@pytest.fixture(scope="module")
def said(page):
    """What is said of a body that is posted to a path; None where it is let in."""
    questions = Questions(page)

    def say(path, body):
        refusal = questions(SCOPE, path, body if isinstance(body, bytes) else json.dumps(body).encode())
        if refusal is None:
            return None
        return refusal.detail if isinstance(refusal.detail, str) else refusal.detail[0]["message"]

    return say


def changed(place, value):
    return [*GENERATE[:place], value, *GENERATE[place + 1 :]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GENERATE, None),
        (changed(6, "false"), "csb: expected true or false; got 'false'"),
        (changed(7, 1), "ssc: expected true or false; got 1"),
        (changed(0, [1]), "class_id: expected a whole number from 0 to 999; got a list"),
        (changed(1, "x" * 100), f"seed: expected a whole number from 0 to 2147483647; got '{'x' * (ECHO - 4)}..."),
        (changed(2, True), "steps: expected a whole number from 1 to 250; got True"),
        (changed(3, None), "guidance: expected a number from 1.0 to 20.0; got None"),
        (changed(4, {}), "sampler: expected one of ddim, ddpm, dpm++; got an object"),
        (changed(8, 8.5), "strength: expected one of 1, 2, 4, 8, 16; got 8.5"),
        (changed(9, "cuda"), "backend: expected one of auto, integer, simulated; got 'cuda'"),
        (changed(10, "other"), "model: expected one of demo"),
        (changed(11, 7), "prompt: expected a text of at most 200 characters; got 7"),
        (changed(9, "x" * (LONGEST_TEXT + 1)), f"text: expected at most {LONGEST_TEXT} characters; got 201"),
        (changed(1, 2**60), "number: expected one of at most 15 digits; got a larger one"),
        (changed(1, {"path": "/etc/passwd"}), "file: expected none, as this app takes no files; got one"),
        (changed(1, [[[[[[[]]]]]]]), "value: expected at most 6 lists and objects in each other; got more"),
        (
            [],
            "data: expected 13 values (class_id, seed, steps, guidance, sampler, bits, csb, ssc, strength, backend, ",
        ),
        ("text", "data: expected a list of values; got 'text'"),
    ],
)
def test_an_endpoints_values_are_read_before_they_wait(said, data, message):
    answer = said("call/generate", {"data": data})
    assert answer is None if message is None else answer.startswith(message)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "call/huh",
            {"data": []},
            "endpoint: expected one of channel, chart_data, compare, generate, layer",
        ),
        ("call/cancel_run", {"data": []}, "endpoint: expected one of"),
        ("call/v2/layer_salience", {"layer": "blocks.0.fc1"}, None),
        ("call/v2/layer_salience", {}, "data: expected layer, timestep, csb, ssc, strength"),
        ("call/v2/layer_salience", {"layer": "blocks.0.fc1", "ssc": 3}, "ssc: expected true or false; got 3"),
        ("call/layer_error", {"data": ["blocks.0.fc1", "W99A99", 1, "", False]}, "weight_bits: expected one of"),
        (
            "call/layer_error",
            {"data": ["huh huh", "W4A8", 1, "", False]},
            "layer: expected a name such as 'blocks.2.fc1'",
        ),
        ("call/compare", {"data": changed(5, "W4A8")}, "bits: expected a list of at most 7"),
        ("call/compare", {"data": changed(5, [4])}, "bits: expected W<bits>A<bits>"),
        ("call/chart_data", {"data": [[], "x", 1, 4, 8, True, True, 1, "", False]}, "chart: expected one of start"),
        ("queue/join", {"data": [], "fn_index": "1", "session_hash": "a"}, "fn_index: expected a number; got '1'"),
        (
            "queue/join",
            {"data": [], "fn_index": 9999, "session_hash": "a"},
            "fn_index: expected the number of an event",
        ),
        ("queue/join", {"data": [], "fn_index": 1, "session_hash": "a b"}, "session_hash: expected up to 64 letters"),
        ("queue/join", {"data": [], "batched": True}, "batched: expected none; got True"),
        ("component_server", {"component_id": 1, "fn_name": "__init__", "data": 1}, "fn_name: expected a function"),
        ("queue/join", b"[1]", "Expected a JSON object; this is another value."),
        ("queue/join", b'{"data": [NaN]}', "Expected a JSON object; this is none."),
        ("queue/join", b"[" * 9000, "Expected a JSON object; this is none."),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(said, path, body, message):
    answer = said(path, body)
    assert answer is None if message is None else answer.startswith(message)


def test_every_event_takes_the_values_that_its_page_opens_with(page, said):
    """Else a person would be refused what the page itself asks."""
    for number, function in page.fns.items():
        if function.fn is None:
            continue
        data = [None if isinstance(block, gr.State) else getattr(block, "value", None) for block in function.inputs]
        if not function.inputs or type(function.inputs[0]).__name__ != "Api":
            body = {"data": data, "fn_index": number, "session_hash": "one", "trigger_id": None}
            refusal = said("queue/join", body)
            assert refusal is None or function.name in ("slide", "drag_outlier", "draw"), (function.name, refusal)


def test_a_selection_is_one_key_however_it_was_written():
    odd = Selection(timestep=500.0, strength=8.0, seed=3.0, guidance=4, steps=25.0)
    assert odd == Selection(seed=3) and hash(odd) == hash(Selection(seed=3))
    assert isinstance(odd.steps, int) and isinstance(odd.guidance, float)
    for wrong in ({"csb": "false"}, {"ssc": 0}, {"strength": True}, {"seed": "3"}, {"guidance": float("nan")}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
            Selection(**wrong)


def test_what_came_is_repeated_briefly():
    assert brief("a") == "'a'" and brief([1] * 100) == "a list" and brief({"x": 1}) == "an object"
    assert len(brief("x" * 1_000_000)) == ECHO and "\x1b" not in brief("\x1b[31m")


def test_what_nobody_foresaw_is_logged_and_told_in_our_words(caplog):
    def handler(request: gr.Request, layer: str) -> int:
        return len(layer) // 0

    def stream(count: int):
        yield count
        raise KeyError(count)

    safe, safe_stream = guarded(handler), guarded(stream)
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error, match=UNFORESEEN):
        safe(None, "x")
    assert "ZeroDivisionError" in caplog.text
    running = safe_stream(3)
    assert next(running) == 3
    with pytest.raises(gr.Error, match=UNFORESEEN):
        next(running)
    assert inspect.signature(safe) == inspect.signature(handler)
    assert inspect.isgeneratorfunction(safe_stream) and not inspect.isgeneratorfunction(safe)
    assert answering(handler)(SimpleNamespace(), "x") == {"problem": UNFORESEEN}


def test_what_the_server_keeps_itself_is_left_out_only_where_gradio_fills_it_in(page, said):
    """A simple call by name may; what joins the queue without it would end in gradio's own words."""
    keeping = {n: f for n, f in page.fns.items() if f.fn and any(isinstance(one, gr.State) for one in f.inputs)}
    assert keeping
    for number, function in keeping.items():
        data = [getattr(block, "value", None) for block in function.inputs if not block.skip_api]
        body = {"data": data, "fn_index": number, "session_hash": "one"}
        assert said("queue/join", body).startswith(f"data: expected {len(function.inputs)} values")
