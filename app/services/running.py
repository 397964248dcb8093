"""Which run of which session is under way, so that it can be cancelled; a session has one run at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock

_lock = Lock()
_runs: dict[str, Event] = {}


@contextmanager
def begin(session: str) -> Iterator[Event]:
    """The event that cancels this run, for as long as it is under way; an earlier run of the session is cancelled."""
    cancelled = Event()
    cancel(session)
    with _lock:
        _runs[session] = cancelled
    try:
        yield cancelled
    finally:
        cancelled.set()
        with _lock:
            if _runs.get(session) is cancelled:
                del _runs[session]


def is_last(session: str, cancelled: Event) -> bool:
    """Whether the session has begun no other run since the one that this event cancels."""
    with _lock:
        return _runs.get(session) is cancelled


def cancel(session: str) -> bool:
    """Cancel the session's run; says whether there was one."""
    with _lock:
        cancelled = _runs.get(session)
    if cancelled is not None:
        cancelled.set()
    return cancelled is not None
