"""What runs each time of a test of many cases, and what runs in the long form alone: `python -m pytest -m long`."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def usually(names: Iterable[str], usual: Container[str]) -> list[Any]:
    """Parameters of a test, those that are not usual marked as of its long form."""
    return [name if name in usual else pytest.param(name, marks=pytest.mark.long) for name in names]
