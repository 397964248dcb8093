"""Bounded caches shared by all visitors, each entry worked out once however many ask for it at the same time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from threading import Lock, RLock
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_clearing: list[Callable[[], None]] = []


def shared(maxsize: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep the last `maxsize` results of a function of small hashable keys; failures are not kept.

    A second caller of a key waits for the first one's result and works nothing out; callers of other keys do not wait.
    `function.cache_clear` forgets all of one function's results, `forget_everything` those of all functions.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        kept: _Kept[R] = _Kept(maxsize)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return kept.get((args, tuple(sorted(kwargs.items()))), lambda: function(*args, **kwargs))

        call.cache_clear = kept.clear  # type: ignore[attr-defined]
        _clearing.append(kept.clear)
        return call

    return decorate


class _Kept(Generic[R]):
    """Results by key, the one used least lately first, and a lock for each key that is being worked out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()  # held for moments only
        self._results: OrderedDict[Hashable, R] = OrderedDict()
        self._making: dict[Hashable, RLock] = {}

    def get(self, key: Hashable, work_out: Callable[[], R]) -> R:
        """The result of a key, worked out where there is none."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
            making = self._making.setdefault(key, RLock())
        with making:
            with self._lock:
                if key in self._results:
                    return self._results[key]
            try:
                result = work_out()
                self._keep(key, result)
                return result
            finally:
                with self._lock:
                    self._making.pop(key, None)

    def clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._results.clear()

    def _keep(self, key: Hashable, result: R) -> None:
        with self._lock:
            self._results[key] = result
            while len(self._results) > self._most:
                self._results.popitem(last=False)


def forget_everything() -> None:
    """Empty all caches, as when another model is explored."""
    for clear in _clearing:
        clear()
