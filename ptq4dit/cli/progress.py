"""How far a command is, on stderr: one bar for all its processes, with the time of a unit and the time left.

Once the first unit is done it says what the whole takes: time, memory, disk.
"""

import math
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ptq4dit.cli.report import duration, lines, say
from ptq4dit.parallel import processes
from ptq4dit.storage.memory import held_bytes

if TYPE_CHECKING:
    from ptq4dit.parallel import Progress

_LEAST = 5.0
"""Seconds of a whole worth a word about its price."""
_WIDTH = 20


class Bar:
    """Progress in units of one kind, told as (units done, in all); the first of several processes shows it."""

    def __init__(self, what: str, *, disk: int = 0, priced: bool = False) -> None:
        """Begin.

        Args:
            what: one unit: ``"step"``.
            disk: bytes that the result takes, as far as they are known.
            priced: somebody else says what the whole takes.
        """
        self.what, self.disk, self.priced = what, disk, priced
        self._begun: tuple[float, int] | None = None

    def __call__(self, done: int, total: int, seconds_left: float | None = None) -> None:
        """Show that so many are done; ``seconds_left`` where the caller knows better than by the rate so far."""
        now = time.monotonic()
        if self._begun is None:  # the first call: whatever was done before took no time of this run
            self._begun = now, done
        begun, before = self._begun
        each = (now - begun) / (done - before) if done > before else math.inf
        left = each * (total - done) if seconds_left is None else seconds_left
        self.show(done, total, each, left)

    def show(self, done: int, total: int, each: float, left: float, memory: int = 0) -> None:
        """Show it; the price first, once it is known."""
        if not processes().first:
            return
        known = math.isfinite(left) and math.isfinite(each)
        if known and not self.priced and done < total:
            self.priced = True
            if left > _LEAST:
                say(f"{self._price(left, total, memory)}\n")
        pace = f", {_each(each)} each, about {duration(left)} left" if known and done < total else ""
        _over(f"{self.what} {done} of {total}{pace}", done, total)

    def _price(self, left: float, total: int, memory: int) -> str:
        count, held = processes().count, memory or held_bytes().get("VmHWM", 0)
        by = f" by {count} processes" if count > 1 else ""
        parts = [f"{total} {self.what}s{by}: about {duration(left)} from now", f"{held / 1e6:.0f} MB of memory each"]
        return ", ".join(parts + [f"{self.disk / 1e6:.1f} MB on disk"] * (self.disk > 0)) + "."


class Parts(Bar):
    """Progress of a job whose parts processes share."""

    def __init__(self) -> None:
        super().__init__("part")

    def job(self, progress: "Progress") -> None:
        """Show how far all processes are."""
        left, parts = progress.seconds_left, progress.total - progress.done
        self.disk = progress.total * progress.bytes
        self.show(progress.done, progress.total, left / parts if parts else math.inf, left, progress.memory)


def sampling_bar() -> Bar | None:
    """Steps of sampling, where one process does them all; several show their common parts only."""
    return Bar("step", priced=True) if processes().count == 1 else None


class PricedError(Exception):
    """Thrown at work of which only the price was asked for."""


class FirstUnit:
    """Progress told as (units done, in all) that stops the work once it knows what a unit takes.

    That is the time from one call to the next: what comes before all units, such as reading data, is not counted.

    Attributes:
        each: seconds of a unit.
        total, done: units, and how many of them are done.
    """

    def __init__(self) -> None:
        self.each, self.total, self.done, self._seen = math.inf, 0, 0, list[float]()

    def __call__(self, done: int, total: int) -> None:
        """Told after a unit, or before the first.

        Raises:
            PricedError: the second time, or where nothing is left.
        """
        self.total, self.done = total, done
        self._seen.append(time.monotonic())
        if len(self._seen) > 1:
            self.each = self._seen[-1] - self._seen[-2]
        if len(self._seen) > 1 or done == total:
            raise PricedError


def price(progress: "Progress") -> dict[str, Any]:
    """What a job takes, by its first part."""
    return priced(
        progress.total,
        progress.done,
        progress.seconds_left,
        disk=progress.total * progress.bytes,
        memory=progress.memory,
    )


def priced(total: int, done: int, seconds_left: float, *, disk: int, memory: int = 0, **more: Any) -> dict[str, Any]:
    """What is to be known before the work is asked for: units, time, memory, disk."""
    held = memory or held_bytes().get("VmHWM", 0)
    return {
        "parts": total,
        "parts_done": done,
        "processes": processes().count,
        "time_left": duration(seconds_left),
        "seconds_left": round(seconds_left, 3),
        "memory_mb_each": round(held / 1e6),
        "disk_mb": round(disk / 1e6, 1),
        **more,
    }


def told(cost: Mapping[str, Any]) -> str:
    """A price for people."""
    return lines({name: value for name, value in cost.items() if name != "seconds_left"})


def _each(seconds: float) -> str:
    """The time of one unit."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s" if seconds < 120 else duration(seconds)


def _over(text: str, done: int, total: int) -> None:
    """With a bar over the line before on a terminal; elsewhere a line for every tenth of the work."""
    if sys.stderr is not None and sys.stderr.isatty():
        full = _WIDTH * done // total
        say(f"\r[{'#' * full}{'.' * (_WIDTH - full)}] {text:70}" + ("\n" if done == total else ""))
    elif done == total or done * 10 // total > (done - 1) * 10 // total:
        say(text + "\n")
