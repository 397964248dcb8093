"""How often something that goes on is shown."""

from __future__ import annotations

import math
import time


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
