"""Read JSON of strangers: no size is believed, no number that is none; without torch."""

import json
import re
from pathlib import Path
from typing import Any

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""How a terminal is told to change its colour, which libraries put into their errors."""
LARGEST = 64 * 2**20
"""Bytes of a file that is read at all, unless less is asked for."""


def strict_json(text: str, what: str, *, infinities: bool = False) -> Any:
    """The value of a stranger's JSON: no NaN, no endless nesting.

    Args:
        text: the JSON.
        what: it is, for messages.
        infinities: let infinite numbers pass, which some of diffusers' schedulers have in their configs.

    Raises:
        ValueError: if it is no such JSON.
    """

    def constant(name: str) -> float:
        if infinities and name.endswith("Infinity"):
            return float(name)
        raise ValueError(f"{name} is no number")

    try:
        return json.loads(text, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {what}, got damaged text: {first_sentence(error)}.") from error


def read_strict_json(path: Path, *, infinities: bool = False, largest: int = LARGEST) -> Any:
    """The JSON in a file of a stranger's, of bounded size; see `strict_json`.

    Raises:
        ValueError: if it is no such JSON.
    """
    try:
        if path.stat().st_size > largest:
            raise ValueError(f"more than {largest} bytes")
        text = path.read_text(encoding="utf-8")
    except (ValueError, OSError) as error:
        raise ValueError(
            f"Expected JSON in {str(path)!r}, got a file that cannot be read: {first_sentence(error)}."
        ) from error
    return strict_json(text, repr(str(path)), infinities=infinities)


def first_sentence(error: BaseException) -> str:
    """An error's first sentence, without colour codes."""
    text = COLOUR.sub("", str(error)).strip()
    return text.splitlines()[0].split(". ")[0][:120] if text else type(error).__name__
