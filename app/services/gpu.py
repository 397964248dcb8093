"""A Space's GPU, where the app runs on one."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def on_gpu(function: Callable[P, R]) -> Callable[P, R]:
    """Ask a Space for its GPU while the function runs; elsewhere, without the package `spaces`, the function itself.

    Arguments and results go to another process there, so they must be plain data.
    """
    if find_spec("spaces") is None:
        return function
    import spaces

    asked: Callable[P, R] = spaces.GPU(function)
    return asked
