"""What a command says: its result on stdout, as text or as JSON, and its progress on stderr."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptq4dit.parallel import Progress


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a command.

    Attributes:
        content: plain JSON values, printed with ``--json``.
        text: printed without.
    """

    content: Mapping[str, Any]
    text: str

    def write(self, as_json: bool) -> None:
        """Print it to stdout.

        Raises:
            ValueError: if nobody takes it; what the command wrote into files is there nevertheless.
        """
        try:
            sys.stdout.write((json.dumps(self.content, indent=2) if as_json else self.text.rstrip("\n")) + "\n")
            sys.stdout.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest as it ends
            raise ValueError(f"Expected a stdout that takes the result, got {error.strerror or error}.") from error


def require_stdout() -> None:
    """Refuse to begin where there is nowhere to print the result.

    Raises:
        ValueError: if stdout is closed.
    """
    if sys.stdout is None:
        raise ValueError("Expected a stdout to print the result to, got a closed one. Redirect it: >/dev/null.")


def say(text: str) -> None:
    """Write to stderr, if anybody listens there: progress is no reason to fail."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


def lines(content: Mapping[str, Any]) -> str:
    """``name: value`` on a line each, names padded; lists and dicts as JSON."""
    width = max(len(name) for name in content) + 1
    return "\n".join(f"{name + ':':{width}} {_plain(value)}" for name, value in content.items())


def show_steps(done: int, total: int) -> None:
    """Progress of sampling and calibration."""
    _show(f"step {done} of {total}", done, total)


def show_reconstruction(done: int, total: int, seconds_left: float) -> None:
    """Progress of reconstruction, with the time left."""
    left = "" if seconds_left == float("inf") else f", about {seconds_left:.0f} s left"
    _show(f"reconstruction: {done} of {total}{left}", done, total)


def show_parts(progress: "Progress") -> None:
    """Progress of a job of many parts, with what is left; of all processes together."""
    left = "" if progress.done == progress.total else f", about {duration(progress.seconds_left)} left"
    _show(f"{progress.done} of {progress.total} parts{left}", progress.done, progress.total)


def price(progress: "Progress", processes: int) -> dict[str, Any]:
    """What a job takes, by its first part."""
    return {
        "parts": progress.total,
        "parts_done": progress.done,
        "processes": processes,
        "time_left": duration(progress.seconds_left),
        "memory_mb_each": round(progress.memory / 1e6),
        "disk_mb": round(progress.total * progress.bytes / 1e6, 1),
    }


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def show_job(key: str, done: int, total: int) -> None:
    """Progress of a benchmark."""
    say(f"{done} of {total}: {key}\n")


def _show(text: str, done: int, total: int) -> None:
    """Over the line before on a terminal; elsewhere a line for every tenth of the work."""
    if sys.stderr is not None and sys.stderr.isatty():
        say(f"\r{text:60}" + ("\n" if done == total else ""))
    elif done == total or done * 10 // total > (done - 1) * 10 // total:
        say(text + "\n")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
