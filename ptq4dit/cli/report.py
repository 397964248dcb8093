"""What a command says: its result on stdout, as text or as JSON, and everything else on stderr."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


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


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
