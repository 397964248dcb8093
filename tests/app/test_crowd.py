"""Many ask at once: who is one too many is told so and when to come again; nonsense is refused however many wait."""

import json
import time

import pytest

from app.server import visitors
from tests.load.server import ask, begin_learning, new_session, post

pytestmark = pytest.mark.alone

LONG = (0, 0, 120, 4.0, "ddim", ["W4A8", "W8A8", "W6A8", "W5A8", "W3A8"], True, True, 1, "simulated", "", "", False)
AT_ONCE = 1.0


def join(app, number, data, session):
    return post(f"{app.url}/gradio_api/queue/join", {"data": data, "fn_index": number, "session_hash": session})


def number_of(app, name):
    return next(one["id"] for one in app.config()["dependencies"] if one["api_name"] == name)


def leave(app, session, answers):
    """Take back what was asked for and is not wanted."""
    for _, answer in answers:
        if "event_id" in answer:
            gone = {"session_hash": session, "fn_index": 0, "event_id": answer["event_id"]}
            assert post(f"{app.url}/gradio_api/cancel", gone)[0] == 200


def test_those_who_learn_keep_nobody_from_drawing(running):
    """Two methods learn for minutes: a comparison is made meanwhile, and the second waits in line."""
    learning = [begin_learning(running, method) for method in ("ours", "gptq")]
    waiting = next(m for m in learning[1] if "before this one" in json.dumps(m) or m["msg"] == "process_completed")
    assert waiting["msg"] == "process_generating"
    (answer,) = ask(running.url, "compare", 0, 0, 4, 4.0, "ddim", ["W4A8"], True, True, 1, "simulated", timeout=120)
    assert answer["variants"][0]["psnr"] > 0
    assert next(learning[0])["msg"] == "process_generating"
    for stream in learning:
        stream.close()


def test_one_visitor_has_a_bounded_number_of_runs(running):
    session, number = new_session(), number_of(running, "compare")
    answers = [join(running, number, list(LONG), session) for _ in range(visitors.OWN + 1)]
    leave(running, session, answers)
    assert [status for status, _ in answers] == [200] * visitors.OWN + [429]
    assert "of yours wait or are under way" in answers[-1][1]["detail"]


def test_one_visitor_has_a_bounded_number_of_unread_answers(running):
    session, number = new_session(), number_of(running, "layers")
    statuses = [join(running, number, [""], session)[0] for _ in range(visitors.UNREAD + 1)]
    assert statuses == [200] * visitors.UNREAD + [429]
    assert isinstance(ask(running.url, "layers")[0], list)  # others read as before


def test_a_full_queue_is_told_honestly_and_refuses_nonsense_at_once(running):
    number, asked = number_of(running, "compare"), {}
    for seed in range(visitors.WAITING + 4):  # nobody reads what comes of them
        session = new_session()
        asked[session] = join(running, number, [0, seed, *LONG[2:]], session)
    full = [answer for status, answer in asked.values() if status == 503]
    assert full and all("wait already, about" in one["detail"] for one in full)
    begun = time.monotonic()
    wrong = [0, 0, 25, 4.0, "ddim", ["W4A8"], "false", True, 1, "auto", "", "", False]
    status, answer = join(running, number, wrong, new_session())
    assert time.monotonic() - begun < AT_ONCE
    assert status == 422 and answer["detail"][0]["message"] == "csb: expected true or false; got 'false'"
    assert isinstance(ask(running.url, "layers")[0], list)  # look-ups wait in no line of theirs
    for session, one in asked.items():
        leave(running, session, [one])


def test_a_visitor_is_an_address_that_a_proxy_may_name_and_here_a_session():
    def scope(address, **headers):
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return {"client": (address, 1), "headers": pairs}

    assert visitors.visitor(scope("203.0.113.9"), "one") == visitors.visitor(scope("203.0.113.9"), "two")
    assert visitors.visitor(scope("127.0.0.1"), "one") != visitors.visitor(scope("127.0.0.1"), "two")
    for proxy in ("127.0.0.1", "10.20.30.40", "::ffff:10.20.30.40"):
        named = scope(proxy, x_forwarded_for="made up, 192.0.2.1, 198.51.100.7")
        assert visitors.visitor(named, "one") == "198.51.100.7"
    assert visitors.visitor(scope("127.0.0.1", x_forwarded_for="huh"), "one") == "one"
    assert visitors.visitor(scope("10.20.30.40", x_forwarded_for="huh"), "one") == "10.20.30.40"


def test_nobody_but_a_proxy_of_ones_own_is_believed_about_an_address():
    """Whoever makes up another address for each question is one visitor all the same."""
    told = [(b"X-Forwarded-For", f"198.51.100.{number}".encode()) for number in range(3)]
    found = {visitors.visitor({"client": ("203.0.113.9", 1), "headers": [one]}, object()) for one in told}
    found |= {
        visitors.visitor({"client": ("10.0.0.1", 1), "headers": [one, (b"x-forwarded-for", b"203.0.113.9")]}, "")
        for one in told
    }
    assert found == {"203.0.113.9"}
