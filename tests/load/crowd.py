"""A crowd on the app: `python tests/load/crowd.py [CLIENTS] [MINUTES]` prints what it held.

Every question comes from a new visitor. Most look something up, some draw; a tenth of all leave in mid-stream, a
twentieth asks nonsense. Failed is a sensible question that is not answered, but for an honest "so many wait, about so
long", after which the visitor comes again.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.load.fuzz import Heard, hear, questions
from tests.load.server import Served, ask, events, join, new_session, served
from tests.load.sessions import LOOK_UPS, settle

NONSENSE, LEAVING, DRAWING = 0.05, 0.10, 0.15  # shares of all questions; the others look something up
THINKING = 0.5, 2.0  # seconds between two questions of one client, at least and at most
PATIENCE = {"look-up": 60.0, "drawing": 300.0}  # seconds after which a client gives up, which is a failure
HONEST = re.compile(r"about (\d+) s")
BITS = ["W4A8"], ["W8A8"], ["W4A8", "W8A8"]


@dataclass(kw_only=True)
class Seen:
    """What the clients met: seconds of every answer by kind; what failed; honest refusals; nonsense and its answers."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"look-up": [], "drawing": []})
    failed: list[str] = field(default_factory=list)
    full: list[int] = field(default_factory=list)
    nonsense: list[Heard] = field(default_factory=list)
    left: int = 0
    memory: list[tuple[float, float]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    @property
    def refused(self) -> list[float]:
        """Seconds in which nonsense was refused; some of it makes sense and is answered."""
        return [one.seconds for one in self.nonsense if one.status != 200]

    def halves(self) -> tuple[float, float]:
        """The most memory held in either half of the time, in MB."""
        middle = self.memory[-1][0] / 2
        first, second = ([mb for at, mb in self.memory if (at > middle) == later] for later in (False, True))
        return max(first), max(second)

    def rows(self) -> list[tuple[str, str, str]]:
        """The table: what, bar, measured."""
        first, second = self.halves()
        looked, drawn, refused = self.seconds["look-up"], self.seconds["drawing"], self.refused
        wrong, waited = sum(bool(one.wrong()) for one in self.nonsense), max(self.full, default=0)
        grown, files = 100 * (second / first - 1), " and ".join(f"{size / 1e6:.1f} MB" for size in self.files)
        return [
            ("sensible questions that failed", "0", str(len(self.failed))),
            ("look-ups: number; p95, p99", "1 s, 2 s", f"{len(looked)}; {within(looked, 95)}, {within(looked, 99)}"),
            ("drawings: number; half of them, p95", "", f"{len(drawn)}; {within(drawn, 50)}, {within(drawn, 95)}"),
            ("told honestly that too many wait; at most for", "", f"{len(self.full)}; {waited} s"),
            ("left in mid-stream", "", str(self.left)),
            ("nonsense: number; wrongly answered", "0", f"{len(self.nonsense)}; {wrong}"),
            ("nonsense refused: p95, all", "1 s", f"{within(refused, 95)}, {max(refused, default=0):.2f} s"),
            ("memory, first half and second", "2% more", f"{first:.0f} MB, {second:.0f} MB ({grown:+.1f}%)"),
            ("temporary files, half-way and at the end", "bounded", files),
        ]


def within(seconds: list[float], percent: int) -> str:
    """The time that so many percent of the answers took at most."""
    return f"{share(seconds, percent):.2f} s"


def share(values: list[float], percent: int) -> float:
    """The value that so many percent of them do not exceed."""
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else max(values, default=0.0)


def crowd(running: Served, clients: int, seconds: float, seed: int = 0) -> Seen:
    """What so many clients meet in so many seconds; those who wait for an answer then still get it."""
    seen, end = Seen(), time.monotonic() + seconds
    page = running.config()
    threads = [
        threading.Thread(target=_visit, args=(running, page, seen, end, Random(seed + number)))
        for number in range(clients)
    ]
    with _watched(running, seen, seconds):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return seen


def _visit(running: Served, page: dict[str, Any], seen: Seen, end: float, random: Random) -> None:
    """One client: a question after the other, as a new visitor each time."""
    nonsense = questions(page, Random(random.random()))
    for _ in range(random.randrange(400)):
        next(nonsense)  # not all begin with the same
    while time.monotonic() < end:
        kind = random.random()
        try:
            if kind < NONSENSE:
                seen.nonsense.append(hear(running.url, next(nonsense)))
            elif kind < NONSENSE + LEAVING:
                _leaves(running, seen, random)
            elif kind < NONSENSE + LEAVING + DRAWING:
                _ask(running, seen, "drawing", _drawing(random), end)
            else:
                _ask(running, seen, "look-up", random.choice(LOOK_UPS), end)
        except Exception as error:  # whatever it is, a client would see it
            seen.failed.append(f"{kind:.2f}: {type(error).__name__}: {error}")
        time.sleep(random.uniform(*THINKING))


def _drawing(random: Random) -> tuple[str, tuple[Any, ...]]:
    """A picture, or a comparison, of few steps."""
    steps, seed, strength = random.randint(4, 12), random.randrange(1000), random.choice((1, 8))
    if random.random() < 0.5:
        return "generate", (0, seed, steps, 4.0, "ddim", "W4A8", True, True, strength)
    return "compare", (0, seed, steps, 4.0, "ddim", random.choice(BITS), True, True, strength)


def _ask(running: Served, seen: Seen, kind: str, question: tuple[str, tuple[Any, ...]], end: float) -> None:
    """Ask until there is an answer; who is told to come again does so, if there is time."""
    name, data = question
    while True:
        begun = time.monotonic()
        answer = ask(running.url, name, *data, timeout=PATIENCE[kind])
        if isinstance(answer, list):
            seen.seconds[kind].append(time.monotonic() - begun)
            return
        wait = HONEST.search(str(answer))
        if wait is None:
            seen.failed.append(f"{name} {data}: {answer}")
            return
        seen.full.append(int(wait[1]))
        if time.monotonic() + int(wait[1]) > end:
            return
        time.sleep(int(wait[1]))


def _leaves(running: Served, seen: Seen, random: Random) -> None:
    """Begin a comparison, look at its first words, and close the tab."""
    session = new_session()
    question = 0, random.randrange(1000), 25, 4.0, "ddim", ["W4A8", "W8A8"], True, True, 1
    status, said = join(running.url, "compare", *question, session=session)
    if status == 200:
        with closing(events(running.url, session)) as stream:
            for _ in range(random.randint(1, 2)):
                next(stream)
        seen.left += 1
    elif (wait := HONEST.search(str(said))) is not None:
        seen.full.append(int(wait[1]))
    else:
        seen.failed.append(f"compare, left: {status} {said}")


@contextmanager
def _watched(running: Served, seen: Seen, seconds: float) -> Iterator[None]:
    """Read memory all the time, and temporary files half-way and at the end."""
    over, begun = threading.Event(), time.monotonic()

    def watch() -> None:
        while not over.wait(1.0):
            at = time.monotonic() - begun
            seen.memory.append((at, running.resident()))
            if at > seconds / 2 and not seen.files:
                seen.files.append(running.written())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        seen.files.append(running.written())


def warm(running: Served, tell: Callable[[str], None] = lambda text: None) -> None:
    """Ask everything once that the clients ask: models that are made once are made then."""
    settle(running)
    for bits in BITS:
        for strength in (1, 8):
            answer = ask(running.url, "compare", 0, 0, 4, 4.0, "ddim", bits, True, True, strength, timeout=600)
            tell(f"{bits} x{strength}: {'ready' if isinstance(answer, list) else answer}")
    for name, data in LOOK_UPS:
        ask(running.url, name, *data, timeout=600)
    settle(running)


def main() -> None:
    """Print the table, and what failed."""
    clients, minutes = (float(one) for one in [*sys.argv[1:], *("50", "10")[len(sys.argv) - 1 :]])
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as running:
        warm(running, lambda text: print(text, flush=True))
        seen = crowd(running, int(clients), 60 * minutes)
        print(f"\n{int(clients)} clients, {minutes:g} minutes\n\n| what | bar | measured |\n| --- | --- | --- |")
        print("\n".join(f"| {' | '.join(row)} |" for row in seen.rows()))
        each = len(seen.memory) / 10
        print("MB at each tenth:", *(f"{seen.memory[int(tenth * each)][1]:.0f}" for tenth in range(10)))
        for line in (*seen.failed[:20], *(f"{one.wrong()}: {one.asked}" for one in seen.nonsense if one.wrong())):
            print(line)
        tracebacks = re.findall(r"Traceback.*?^\w[^\n]*$", running.told(), re.DOTALL | re.MULTILINE)
        print("tracebacks in the log:", len(tracebacks), *tracebacks[:3], sep="\n")


if __name__ == "__main__":
    main()
