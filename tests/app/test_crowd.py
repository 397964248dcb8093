"""Many ask at once: who is one too many is told so and when to come again; nonsense is refused however many wait."""

import json
import time

from app.server import visitors
from tests.load.server import ask, begin_learning, events, new_session, post, served

LONG = (0, 0, 250, 4.0, "ddim", ["W4A8", "W8A8", "W6A8", "W5A8", "W3A8"], True, True, 1, "simulated")
AT_ONCE = 1.0


def join(app, number, data, session):
    return post(f"{app.url}/gradio_api/queue/join", {"data": data, "fn_index": number, "session_hash": session})


def number_of(app, name):
    return next(one["id"] for one in app.config()["dependencies"] if one["api_name"] == name)


def test_a_full_queue_is_told_honestly_and_refuses_nonsense_at_once(model_folder, tmp_path):
    with served(tmp_path, env={"PTQ4DIT_MODEL": str(model_folder)}) as app:
        ask(app.url, "layers", timeout=180)
        number, answers = number_of(app, "compare"), []
        for seed in range(visitors.WAITING + 4):  # nobody reads what comes of them
            answers.append(join(app, number, [0, seed, *LONG[2:]], new_session()))
        full = [answer for status, answer in answers if status == 503]
        assert full and all("wait already, about" in one["detail"] for one in full), answers[-1]
        begun = time.monotonic()
        status, answer = join(app, number, [0, 0, 25, 4.0, "ddim", ["W4A8"], "false", True, 1, "auto"], new_session())
        assert status == 422 and answer["detail"][0]["message"] == "csb: expected true or false; got 'false'"
        assert isinstance(ask(app.url, "layers")[0], list)  # look-ups wait in no line of theirs
        assert time.monotonic() - begun < 4 * AT_ONCE
        one = new_session()
        mine = [join(app, number_of(app, "run_pair"), [], one) for _ in range(2)]
        assert {status for status, _ in mine} == {422}


def test_one_visitor_has_a_bounded_number_of_runs_and_of_unread_answers(model_folder, tmp_path):
    with served(tmp_path, env={"PTQ4DIT_MODEL": str(model_folder)}) as app:
        ask(app.url, "layers", timeout=180)
        session, number = new_session(), number_of(app, "compare")
        answers = [join(app, number, list(LONG), session) for _ in range(visitors.OWN + 1)]
        assert [status for status, _ in answers] == [200] * visitors.OWN + [429]
        assert "of yours wait or are under way" in answers[-1][1]["detail"]
        session, number = new_session(), number_of(app, "layers")
        statuses = [join(app, number, [], session)[0] for _ in range(visitors.UNREAD + 1)]
        assert statuses == [200] * visitors.UNREAD + [429]
        reading = events(app.url, session)
        next(reading)
        reading.close()


def test_those_who_learn_keep_nobody_from_drawing(model_folder, tmp_path):
    """Two methods learn for minutes: a comparison is made meanwhile, and the second waits in line."""
    with served(tmp_path, env={"PTQ4DIT_MODEL": str(model_folder)}) as app:
        ask(app.url, "layers", timeout=180)
        learning = [begin_learning(app, method) for method in ("ours", "gptq")]
        waiting = next(m for m in learning[1] if "before this one" in json.dumps(m) or m["msg"] == "process_completed")
        assert waiting["msg"] == "process_generating"
        (answer,) = ask(app.url, "compare", 0, 0, 4, 4.0, "ddim", ["W4A8"], True, True, 1, "simulated", timeout=120)
        assert answer["variants"][0]["psnr"] > 0
        assert next(learning[0])["msg"] == "process_generating"
        for stream in learning:
            stream.close()


def test_a_visitor_is_an_address_that_a_proxy_may_name_and_here_a_session():
    def scope(address, **headers):
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return {"client": (address, 1), "headers": pairs}

    assert visitors.visitor(scope("203.0.113.9"), "one") == visitors.visitor(scope("203.0.113.9"), "two")
    assert visitors.visitor(scope("127.0.0.1"), "one") != visitors.visitor(scope("127.0.0.1"), "two")
    named = scope("127.0.0.1", x_forwarded_for="198.51.100.7, 10.0.0.1")
    assert visitors.visitor(named, "one") == "198.51.100.7"
    assert visitors.visitor(scope("127.0.0.1", x_forwarded_for="huh"), "one") == "one"
