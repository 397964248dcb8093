"""What the server keeps of its visitors: little of each, and of a bounded number; unread answers for a while only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

from gradio.queueing import Queue
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

SESSIONS = (
    512  # visitors whose state and unread answers are kept, about 30 kB each; the one seen least lately gives way
)
UNREAD = 120.0  # seconds for which an answer that nobody fetches is kept
SWEEP = 30.0  # seconds between two looks at what can go
RECORDED = 16  # events in gradio's statistics, which nothing shows here


class Session(SessionState):
    """A session without a copy of the whole page's configuration, which only links to a session's state would need."""

    def __init__(self, blocks: Any) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values: dict[int, Any] = {}
        self.state_data = {}
        self._state_ttl = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        """Nothing to keep up to date."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Nothing to keep up to date."""


class Sessions(StateHolder):
    """A bounded number of sessions, in the order in which they were last seen."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = Session(self.blocks)
        return super().__getitem__(session_id)


class Mailboxes(dict[str, Any]):
    """Unread answers by session. Of too many, the one least lately used that nothing is under way for gives way."""

    def __init__(self, queue: Queue) -> None:
        super().__init__()
        self._queue = queue
        self._used: dict[str, float] = {}

    def __getitem__(self, session: str) -> Any:
        box = super().__getitem__(session)
        self._used[session] = time.monotonic()
        return box

    def __setitem__(self, session: str, box: Any) -> None:
        if session not in self and len(self) >= SESSIONS:
            oldest = sorted(self, key=lambda one: self._used[one])
            del self[next((one for one in oldest if not self._is_awaited(one)), oldest[0])]
        self._used[session] = time.monotonic()
        super().__setitem__(session, box)

    def __delitem__(self, session: str) -> None:
        """Forget a box, if it is still there."""
        self.pop(session, None)
        self._used.pop(session, None)
        self._queue.pending_event_ids_session.pop(session, None)

    def sweep(self) -> None:
        """Forget the boxes that nobody has written to or read from lately and that nothing is under way for."""
        now = time.monotonic()
        for session in [one for one, used in self._used.items() if now - used > UNREAD]:
            if not self._is_awaited(session):
                del self[session]

    def _is_awaited(self, session: str) -> bool:
        """Whether an event of the session waits or runs."""
        events = self._queue.event_ids_to_events
        return any(one in events for one in self._queue.pending_event_ids_session.get(session, ()))


@asynccontextmanager
async def bounded(app: App) -> AsyncIterator[None]:
    """Keep what the server holds in bounds for as long as it runs."""
    blocks = app.get_blocks()
    queue = blocks._queue
    app.state_holder = Sessions()
    app.state_holder.set_blocks(blocks)
    mailboxes = Mailboxes(queue)
    queue.pending_messages_per_session = mailboxes  # type: ignore[assignment]
    queue.ANALYTICS_MAX_EVENTS, queue.ANAYLTICS_CACHE_FREQUENCY = RECORDED, 2**62
    sweeping = asyncio.create_task(_sweep(app, mailboxes))
    try:
        yield
    finally:
        sweeping.cancel()


async def _sweep(app: App, mailboxes: Mailboxes) -> None:
    while True:
        await asyncio.sleep(SWEEP)
        mailboxes.sweep()
        app.iterators_to_reset &= mailboxes._queue.event_ids_to_events.keys()
        await asyncio.to_thread(remove_empty_folders, Path(app.uploaded_file_dir))


def remove_empty_folders(folder: Path, age: float = 60.0) -> None:
    """Remove what the removal of old files leaves, a folder for each; not those that may just be about to be filled."""
    for inner in folder.glob("*"):
        with suppress(OSError):  # gone, or not empty
            if inner.is_dir() and time.time() - inner.stat().st_mtime > age:
                inner.rmdir()
