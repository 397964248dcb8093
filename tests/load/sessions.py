"""Memory of the app while new visitors come all the time: `python tests/load/sessions.py [SESSIONS]`.

Each session is new and asks one look-up; the server process's resident memory is read on the way. Flat is a second half
that holds at most 2% more than the first ended with.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.load.server import Served, ask, served

LOOK_UPS = (
    ("layers", ()),
    ("layer_salience", ("blocks.1.fc1", 500, True, True, 8)),
    ("layer_correlation", ("blocks.0.qkv", True, True, 8)),
    ("layer_error", ("blocks.0.fc1", "W4A8", 8)),
)
AT_ONCE = 4


def settle(running: Served, quiet: float = 6.0, patience: float = 120.0) -> None:
    """Wait until the server has made ready what it makes ready behind the first page: its memory stays as it is."""
    last, since, end = 0.0, time.monotonic(), time.monotonic() + patience
    while time.monotonic() < min(since + quiet, end):
        time.sleep(0.5)
        now = running.resident()
        if abs(now - last) > 0.005 * now:
            last, since = now, time.monotonic()


def visit(running: Served, number: int) -> None:
    """One new visitor, one question."""
    name, data = LOOK_UPS[number % len(LOOK_UPS)]
    answer = ask(running.url, name, *data)
    if not isinstance(answer, list):
        raise ValueError(f"expected the answer of {name}; got {answer!r}")


def grow(running: Served, *marks: int) -> Iterator[tuple[int, float]]:
    """So many new sessions, and the megabytes after them."""
    done = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mark in marks:
            list(pool.map(lambda number: visit(running, number), range(done, mark)))
            yield mark, running.resident()
            done = mark


def main() -> None:
    """Print the table."""
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    marks = (sessions * i // 10 for i in range(1, 11))
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as running:
        settle(running)
        print("sessions  MB", flush=True)
        for mark, megabytes in grow(running, 20, *marks):
            print(f"{mark:8d}  {megabytes:.1f}", flush=True)


if __name__ == "__main__":
    main()
