"""Work that takes long: made once for all who wait, in a line, stopped when the last one leaves, never waited for."""

import time
from threading import Event

import pytest

from app.services.workpiece import Full, Line, Workpiece

SOON = 30.0


def lined(width=1, longest=2):
    return Line(width=width, longest=longest, what="models")


def outcome(words):
    """What a waiting generator ends with."""
    while True:
        try:
            next(words)
        except StopIteration as ended:
            return ended.value


def until(condition, seconds=SOON):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Slow:
    """Work that goes on until it is let go or stopped."""

    def __init__(self):
        self.begun, self.go, self.stopped, self.times = Event(), Event(), Event(), 0

    def __call__(self, stop, tell):
        self.times += 1
        self.begun.set()
        tell("half", 30.0)
        while not self.go.wait(0.01):
            if stop.is_set():
                self.stopped.set()
                raise RuntimeError("stopped")
        return "made"


def test_it_is_made_once_and_then_there():
    work = Slow()
    piece = Workpiece(work, lined())
    first, second = piece.wait(Event()), piece.wait(Event())
    assert next(first) in ("", "half") and next(second) == "half"
    work.go.set()
    assert outcome(first) == outcome(second) == outcome(piece.wait(Event())) == "made"
    assert work.times == 1


def test_who_leaves_waits_for_nothing_and_the_last_one_ends_the_work():
    work = Slow()
    piece = Workpiece(work, lined())
    first, second = piece.wait(Event()), piece.wait(Event())
    next(first), next(second)
    assert work.begun.wait(SOON)
    begun = time.monotonic()
    first.close()
    assert time.monotonic() - begun < 1 and not work.stopped.wait(0.3)
    second.close()
    assert time.monotonic() - begun < 2 and work.stopped.wait(SOON)


def test_who_stops_gets_nothing_and_the_next_begins_anew():
    work, stop = Slow(), Event()
    piece = Workpiece(work, lined())
    waiting = piece.wait(stop)
    next(waiting)
    stop.set()
    assert outcome(waiting) is None and work.stopped.wait(SOON)
    again = piece.wait(Event())
    next(again)
    until(lambda: work.times == 2)
    work.go.set()
    assert outcome(again) == "made"


def test_a_failure_is_told_and_not_kept():
    def fail(stop, tell):
        failures.append(None)
        raise ValueError("no")

    failures, piece = [], None
    piece = Workpiece(fail, lined())
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            outcome(piece.wait(Event()))
    assert len(failures) == 2


def test_a_line_says_where_one_is_and_how_long_that_takes_and_is_bounded():
    line, works = lined(longest=2), [Slow() for _ in range(4)]
    pieces = [Workpiece(work, line) for work in works]
    waiting = [piece.wait(Event()) for piece in pieces[:3]]
    for one in waiting:
        next(one)
    assert works[0].begun.wait(SOON)
    assert next(waiting[1]) == "1 before this one, about 30 s"
    assert next(waiting[2]).startswith("2 before this one, about ")
    with pytest.raises(Full, match=r"2 models wait already, about .* try again later"):
        next(pieces[3].wait(Event()))
    assert not works[1].begun.is_set()
    waiting[1].close()  # who waited in vain makes room for those behind
    until(lambda: next(waiting[2]).startswith("1 before"))
    works[0].go.set()
    assert outcome(waiting[0]) == "made" and works[2].begun.wait(SOON)
    works[2].go.set()
    assert outcome(waiting[2]) == "made" and not works[1].begun.is_set()
