"""Nonsense to every endpoint and every function of the page's parts: `python tests/load/fuzz.py [INPUTS] [SEED]`.

Whatever comes, the answer is one short sentence without a word of Python's, without a path, with at most 80 characters
of what was sent; it comes at once; and the log holds no traceback.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.load.server import ROOT, Served, events, new_session, post, served

WORDS = re.compile(
    r"Traceback|object has no attribute|NoneType|unhashable|positional argument|keyword argument|<locals>|lambda|not "
    r"supported between|could not convert|too large to convert|index out of range|has no len|not iterable|not "
    r"subscriptable|KeyError|TypeError|ValueError|AttributeError|Exception|site-packages|gradio\.|Internal Server Error"
)
MARK = "Zq"
PIECES: tuple[Any, ...] = (
    None,
    True,
    "false",
    "no",
    "",
    "\x00\x1b[31m",
    MARK * 40,
    MARK * 400,
    "🜏" * 60,
    0,
    -1,
    3,
    1.5,
    1e308,
    2**53 + 2,
    -(2**70),
    10**400,
    [],
    [[]],
    [[[[[[[[]]]]]]]],
    [MARK * 30] * 9,
    [None, True, {}],
    {},
    {"size": "x"},
    {"layer": [], "model": 4},
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    "blocks.99.fc1",
    "blocks.0.fc2",
    "../../etc/passwd",
    "W99A99",
    "W4A8 huh",
    ["W4A8"] * 20,
    ["W2A3", 4],
    "rtn",
)
BODIES: tuple[bytes, ...] = (
    b"",
    b"x",
    b"[]",
    b"null",
    b"7",
    b'"text"',
    b"{",
    b'{"data": NaN}',
    b'{"data": [Infinity], "fn_index": 25, "session_hash": "a"}',
    b"[" * 20000,
    b'{"data":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"data": [' + b"9" * 5000 + b"]}",
    b"\xff\xfe\x00",
    b'{"data": [], "fn_index": 25, "session_hash": "a b/../c"}',
    b'{"data": [], "fn_index": 25, "session_hash": ["a"]}',
    b'{"data": [], "fn_index": true, "session_hash": "a", "batched": true}',
    b'{"data": {}, "fn_index": 25, "session_hash": "a", "trigger_id": [1]}',
    b'{"data": [], "fn_index": 25, "session_hash": "a", "event_data": "x", "simple_format": 3}',
    b'{"component_id": null, "fn_name": 3, "data": 1, "session_hash": "a"}',
    b'{"component_id": 3, "fn_name": "__class__", "data": 1, "session_hash": "a"}',
    b'{"session_hash": "a", "fn_index": "x", "event_id": 4}',
)
PATHS = ("queue/join", "call/generate", "call/v2/compare", "call/huh", "run/generate", "api/layers", "component_server")
PATHS += ("cancel", "reset")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question that makes no sense, or hardly any: where to, and its body."""

    path: str
    body: Any
    session: str = ""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What was answered, after how many seconds."""

    asked: Asked
    status: int
    answer: str
    seconds: float

    def wrong(self) -> str:
        """What is wrong with the answer; empty where nothing is."""
        if self.status >= 500 and self.status != 503:
            return f"status {self.status}"
        if found := WORDS.search(self.answer):
            return f"says {found[0]}"
        if str(ROOT) in self.answer or "/etc/" in self.answer.replace('"../../etc/passwd', "").replace(
            "'../../etc", ""
        ):
            return "names a path"
        if MARK * 41 in self.answer:
            return "echoes what was sent"
        return ""


def questions(page: dict[str, Any], random: Random) -> Iterator[Asked]:
    """Nonsense without end, to everything that the page's configuration names."""
    values = {one["id"]: one["props"].get("value") for one in page["components"]}
    handled = [one for one in page["dependencies"] if one["backend_fn"]]
    parts = [(one["id"], name) for one in page["components"] for name in one["props"].get("server_fns", ())]
    yield from (Asked(path=path, body=body) for path in PATHS for body in BODIES)
    while True:
        session = new_session()
        if random.random() < 0.25 and parts:
            number, name = random.choice(parts)
            data = random.choice((random.choice(PIECES), random.choices(PIECES, k=random.randrange(6))))
            body = {"component_id": number, "fn_name": name, "data": data, "session_hash": session}
            yield Asked(path="component_server", body=body)
            continue
        one = random.choice(handled)
        data = [values.get(number) for number in one["inputs"]]
        for place in random.sample(range(len(data)), random.randrange(len(data) + 1)) or [0] * bool(data):
            data[place] = random.choice(PIECES)
        if random.random() < 0.1:
            data = random.choices(PIECES, k=random.randrange(20))
        extra = {"event_data": random.choice((None, {"index": random.choice(PIECES)}, {}))}
        body = {"data": data, "fn_index": one["id"], "session_hash": session}
        yield Asked(path="queue/join", body=body | extra, session=session)


def hear(url: str, asked: Asked) -> Heard:
    """Ask, and where the question is let into the queue, wait for what comes of it."""
    begun = time.monotonic()
    status, answer = post(f"{url}/gradio_api/{asked.path}", asked.body)
    seconds = time.monotonic() - begun
    said = str(answer) if status != 200 or asked.path == "component_server" else ""
    if asked.path == "component_server" and isinstance(answer, dict) and "problem" not in answer:
        said = ""
    if status == 200 and asked.session:
        for message in events(url, asked.session):
            if message["msg"] == "process_completed" and not message["success"]:
                said = str(message["output"])
            if message["msg"] in ("unexpected_error", "process_completed"):
                said = said or str(message.get("message", ""))
                break
    return Heard(asked=asked, status=status, answer=said, seconds=seconds)


def fuzz(running: Served, inputs: int, seed: int = 0) -> list[Heard]:
    """The answers to so many bad inputs."""
    source = questions(running.config(), Random(seed))
    return [hear(running.url, next(source)) for _ in range(inputs)]


def main() -> None:
    """Print what was wrong, and how many of what."""
    inputs, seed = (int(one) for one in [*sys.argv[1:], *("2000", "0")[len(sys.argv) - 1 :]])
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as running:
        heard = fuzz(running, inputs, seed)
        for one in heard:
            if wrong := one.wrong():
                print(wrong, one.asked.path, str(one.asked.body)[:200], one.answer[:300], sep=" | ")
        slowest = sorted(one.seconds for one in heard)
        print(Counter(one.status for one in heard), "wrong:", sum(bool(one.wrong()) for one in heard))
        print(f"refused after at most {slowest[-1]:.2f} s, half after {slowest[len(slowest) // 2]:.3f} s")
        told = running.told()
        print("tracebacks in the log:", told.count("Traceback"), *re.findall(r"Traceback.*?\n(?=\S)[^\n]*", told, re.S))


if __name__ == "__main__":
    main()
