"""Bounded caches shared by all visitors, each entry worked out once however many ask for it at the same time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from threading import RLock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_clearing: list[Callable[[], None]] = []


def shared(maxsize: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep the last `maxsize` results of a function of small hashable keys; failures are not kept.

    A second caller waits for the first one's result and works nothing out. `function.cache_clear` forgets all of one
    function's results, `forget_everything` those of all functions.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        cached = lru_cache(maxsize=maxsize)(function)
        lock = RLock()

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with lock:
                return cached(*args, **kwargs)  # type: ignore[arg-type]

        call.cache_clear = cached.cache_clear  # type: ignore[attr-defined]
        _clearing.append(cached.cache_clear)
        return call

    return decorate


def forget_everything() -> None:
    """Empty all caches, as when another model is explored."""
    for clear in _clearing:
        clear()
