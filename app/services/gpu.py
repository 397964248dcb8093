"""A Space's GPU, where the app runs on one; asked for no longer than the work takes, and done without when refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import wraps
from importlib.util import find_spec
from typing import Any, TypeVar

R = TypeVar("R")
DEVICE = "cuda"
LONGEST = 120.0  # seconds that a Space lends its GPU for at a time


class Refused(Exception):
    """There is no GPU for this now: none is free, a visitor's share is used up, or it was taken away."""


def on_gpu(function: Callable[..., Iterator[R]], seconds: Callable[..., float]) -> Callable[..., Iterator[R]] | None:
    """A generator function as a Space's GPU runs it, with `device` as a further argument; None without a Space's GPU.

    It runs in another process there, so that arguments and what it yields must be plain data. `seconds(arguments)`: how
    long it takes. ValueError comes through; anything else that goes wrong raises Refused.
    """
    if find_spec("spaces") is None:
        return None
    import spaces

    def duration(*arguments: Any) -> int:
        return math.ceil(min(seconds(*arguments), LONGEST))

    asked = spaces.GPU(duration=duration)(_telling(function))

    @wraps(function)
    def run(*arguments: Any) -> Iterator[R]:
        outcomes = iter(asked(*arguments))
        while True:
            try:
                value, wrong = next(outcomes)
            except StopIteration:
                return
            except Exception as error:
                raise Refused(str(error)) from error
            if wrong is not None:
                raise ValueError(wrong)
            yield value

    return run


def _telling(function: Callable[..., Iterator[R]]) -> Callable[..., Iterator[tuple[R | None, str | None]]]:
    """What a generator yields, or says is wrong with what was asked: other errors are not told apart from refusals."""

    @wraps(function)
    def run(*arguments: Any) -> Iterator[tuple[R | None, str | None]]:
        try:
            for value in function(*arguments, device=DEVICE):
                yield value, None
        except ValueError as error:
            yield None, str(error)

    return run
