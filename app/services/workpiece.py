"""What takes long to make: made once, by a thread of its own, for all who wait; whoever leaves, leaves at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from threading import Condition, Event, Lock, Thread
from typing import Generic, TypeVar

R = TypeVar("R")
Tell = Callable[[str, float | None], None]
"""Takes words about how far the work is, and the seconds left, None while nobody can say."""
POLL = 0.2  # seconds between two words to those who wait


class Full(ValueError):
    """So much waits already that it is no use to wait behind it; the message says how much, and how long that takes."""


class Line:
    """So many pieces of work at once; others wait in the order in which they came, at most `longest` of them."""

    def __init__(self, width: int, longest: int, what: str) -> None:
        self._width, self._longest, self._what = width, longest, what
        self._changed = Condition()
        self._places: list[Place] = []
        self._last = 0.0  # seconds that the last finished piece took

    def place(self) -> Place:
        """A place at the end. Raises Full where the line is as long as it may be."""
        with self._changed:
            waiting = len(self._places) - self._width
            if waiting >= self._longest:
                raise Full(
                    f"{waiting} {self._what} wait already{_about(self._wait(len(self._places)))}. "
                    "Nothing was begun; try again later."
                )
            place = Place(self)
            self._places.append(place)
            return place

    def told(self, place: Place) -> str:
        """Where a place is in the line and how long that will take, in words; empty once its turn has come."""
        with self._changed:
            if place not in self._places or self._places.index(place) < self._width:
                return ""
            index = self._places.index(place)
            return f"{index - self._width + 1} before this one{_about(self._wait(index))}"

    def wait(self, place: Place, seconds: float) -> bool:
        """Wait at most so long; says whether it is this one's turn."""
        with self._changed:
            return self._changed.wait_for(lambda: self._places.index(place) < self._width, seconds)

    def turn(self, place: Place, stop: Event) -> Iterator[str]:
        """Words about where a place is, until it is its turn or `stop` is set."""
        while not stop.is_set() and not self.wait(place, POLL):
            yield self.told(place)

    def leave(self, place: Place, seconds: float | None) -> None:
        """Give a place up, at whatever point; `seconds`: how long the work took where it was done."""
        with self._changed:
            if place in self._places:
                self._places.remove(place)
            self._last = seconds or self._last
            self._changed.notify_all()

    def _wait(self, index: int) -> float | None:
        """Seconds until the place at an index gets its turn: what runs, then as many as the last one took."""
        left = sorted(self._last if p.seconds_left is None else p.seconds_left for p in self._places[: self._width])
        if not left or not (self._last or any(left)):
            return None
        between = max(0, index - self._width)
        return left[0] + between * (self._last or left[0]) / self._width


class Place:
    """A place in a line, with the seconds that its work has left, as far as anybody can say."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.seconds_left: float | None = None


class Workpiece(Generic[R]):
    """Something made once by `make(stop, tell)`, in its line, by whoever asks first, and kept.

    `make` raises where it cannot, and as it likes once `stop` is set; the next who asks begins anew. It is told to stop
    when nobody waits for it any more.
    """

    def __init__(self, make: Callable[[Event, Tell], R], line: Line) -> None:
        self._make, self._line = make, line
        self._lock = Lock()
        self._attempt: _Attempt[R] | None = None

    def wait(self, stop: Event) -> Generator[str, None, R | None]:
        """What was made, at once where it is there; until then words about how far it is; None once `stop` is set.

        Raises what making it raised, and Full. Closing the generator leaves at once.
        """
        attempt = self._join()
        try:
            while not attempt.done.wait(POLL):
                if stop.is_set():
                    return None
                yield attempt.word()
            return None if stop.is_set() else attempt.outcome()
        finally:
            self._leave(attempt)

    def _join(self) -> _Attempt[R]:
        with self._lock:
            attempt = self._attempt
            if attempt is None or attempt.is_lost():
                attempt = self._attempt = _Attempt(self._line.place())
                attempt.begin(self._make)
            attempt.waiting += 1
            return attempt

    def _leave(self, attempt: _Attempt[R]) -> None:
        with self._lock:
            attempt.waiting -= 1
            if not attempt.waiting and not attempt.done.is_set():
                attempt.stop.set()


class _Attempt(Generic[R]):
    """One thread's attempt at a workpiece."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.stop, self.done = Event(), Event()
        self.waiting = 0
        self.note = ""
        self.error: BaseException | None = None
        self._made: list[R] = []

    def begin(self, make: Callable[[Event, Tell], R]) -> None:
        """Start the thread; a daemon, so that the process can end at any time."""
        Thread(target=self._run, args=(make,), name="workpiece", daemon=True).start()

    def is_lost(self) -> bool:
        """Whether nothing comes of it: it failed, or was told to stop before it was done."""
        return self.error is not None or (self.stop.is_set() and not self.done.is_set())

    def word(self) -> str:
        """What those who wait are told now."""
        return self.place.line.told(self.place) or self.note

    def outcome(self) -> R:
        """What was made. Raises what making it raised."""
        if self.error is not None:
            raise self.error
        return self._made[0]

    def tell(self, note: str, seconds_left: float | None) -> None:
        """Say how far the work is."""
        self.note, self.place.seconds_left = note, seconds_left

    def _run(self, make: Callable[[Event, Tell], R]) -> None:
        line, seconds = self.place.line, None
        try:
            while not line.wait(self.place, POLL):
                if self.stop.is_set():
                    raise ValueError("Nobody waited for it any more.")
            begun = time.monotonic()
            self._made.append(make(self.stop, self.tell))
            seconds = time.monotonic() - begun
        except BaseException as error:
            # What was told to stop is asked for by nobody: its frames, with half a model in them, are not kept.
            self.error = error.with_traceback(None) if self.stop.is_set() else error
        finally:
            line.leave(self.place, seconds)
            self.done.set()


def _about(seconds: float | None) -> str:
    return "" if seconds is None else f", about {max(1, round(seconds))} s"
