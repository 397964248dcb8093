"""How often something that goes on is shown."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.services.generation import Frame

LINE_EVERY, CHART_EVERY = 0.25, 1.0  # seconds between two updates of the progress line and of a chart


class Pace:
    """Says yes so often and no more: a browser that draws all that comes has no time left for a click."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last = seconds, -math.inf

    def due(self) -> bool:
        """Whether enough time has gone by since the last yes."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A moment of a comparison that is to be shown.

    first: nothing was shown before. pictures: they are new. chart: it is due. cancelled: it ended here, unfinished.
    """

    frame: Frame
    first: bool = False
    pictures: bool = False
    chart: bool = False
    cancelled: bool = False


def paced(frames: Iterable[Frame]) -> Iterator[Beat]:
    """What of a comparison is shown: begin and end, new pictures, how far it is, and its chart now and then."""
    line, chart = Pace(LINE_EVERY), Pace(CHART_EVERY)
    frame, pictures, first = None, None, True
    for frame in frames:
        new = frame.pictures is not pictures
        if first or new or frame.finished or line.due():
            charted = frame.finished or (new and chart.due())
            yield Beat(frame=frame, first=first, pictures=new, chart=charted)
            pictures, first = frame.pictures, False
    if frame is not None and not frame.finished:
        yield Beat(frame=frame, cancelled=True)
