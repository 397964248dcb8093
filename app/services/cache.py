"""Bounded caches shared by all visitors, each entry worked out once however many ask for it at the same time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from threading import Lock, RLock
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Key = tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]
_caches: list[_Kept[Any]] = []


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
        _caches.append(kept)
        return call

    return decorate


class _Making:
    """A result that is being worked out: who does it holds the lock; `wanted` until its key is forgotten."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.wanted = True


class _Kept(Generic[R]):
    """Results by key, the one used least lately first, and a lock for each key that is being worked out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()  # held for moments only
        self._results: OrderedDict[Key, R] = OrderedDict()
        self._making: dict[Key, _Making] = {}

    def get(self, key: Key, work_out: Callable[[], R]) -> R:
        """The result of a key, worked out where there is none."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
            making = self._making.setdefault(key, _Making())
        with making.lock:
            with self._lock:
                if key in self._results:
                    return self._results[key]
            try:
                result = work_out()
                self._keep(key, result, making)
                return result
            finally:
                with self._lock:
                    if self._making.get(key) is making:
                        del self._making[key]

    def clear(self) -> None:
        """Forget all results."""
        self.forget(lambda args: True)

    def forget(self, chosen: Callable[[tuple[Any, ...]], bool]) -> None:
        """Forget the results of those positional arguments for which `chosen` holds, and those that are under way."""
        with self._lock:
            for key in [key for key in self._results if chosen(key[0])]:
                del self._results[key]
            for key in [key for key in self._making if chosen(key[0])]:
                self._making.pop(key).wanted = False

    def _keep(self, key: Key, result: R, making: _Making) -> None:
        with self._lock:
            if not making.wanted:  # it was forgotten meanwhile: whoever asks next gets one of what is there now
                return
            self._results[key] = result
            while len(self._results) > self._most:
                self._results.popitem(last=False)


def forget_everything() -> None:
    """Empty all caches."""
    for kept in _caches:
        kept.clear()


def forget_model(name: str) -> None:
    """Forget what was worked out of one model: every function that looks at one takes its name first."""
    for kept in _caches:
        kept.forget(lambda args: bool(args) and args[0] == name)
