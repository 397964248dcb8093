"""How far a reconstruction is: pieces of work done, and an estimate of the time left."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ptq4dit.calibration.run import Cancelled
from ptq4dit.config.reconstruction import ReconstructionConfig

Progress = Callable[[int, int, float], None]
"""(pieces of work done, pieces in all, seconds left as estimated; infinite while nothing can be said)."""


@dataclass(kw_only=True)
class Report:
    """Counts work, estimates the time left, and stops where asked. A block's start and its steps are timed apart."""

    config: ReconstructionConfig
    progress: Progress | None
    cancelled: Callable[[], bool] | None
    blocks: int = 0
    _last: float = 0.0
    _index: int = 0
    _seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _counts: list[int] = field(default_factory=lambda: [0, 0])

    @property
    def pieces(self) -> int:
        """Pieces of work in one block."""
        return 1 + self.config.steps

    def start(self, index: int) -> None:
        """A block begins; all before it are done."""
        now = time.monotonic()
        self._seconds[0] += now - self._last if index else 0.0  # the way from a block to the next
        self._index, self._last = index, now
        self.check()
        left = self.blocks - index
        self._tell(index * self.pieces, left, left * self.config.steps)

    def step(self, done: int) -> None:
        """A block's start (0) or one of its steps is done."""
        self.check()
        now, kind = time.monotonic(), int(done > 0)
        self._seconds[kind] += now - self._last
        self._counts[kind] += 1
        self._last, left = now, self.blocks - self._index
        self._tell(self._index * self.pieces + 1 + done, left - 1, left * self.config.steps - done)

    def check(self) -> None:
        """Stop where that was asked.

        Raises:
            Cancelled: if so.
        """
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("Reconstruction was cancelled before its last block.")

    def _tell(self, done: int, *left: int) -> None:
        """Say how much is done; ``left`` counts the starts and the steps that are not."""
        if self.progress is not None:
            parts = zip(left, self._seconds, self._counts, strict=True)
            seconds = sum((n * (total / count if count else math.inf) for n, total, count in parts if n), 0.0)
            self.progress(done, self.blocks * self.pieces, seconds)
