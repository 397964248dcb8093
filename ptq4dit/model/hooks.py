"""Hooks for a while, on a model that others may be running: they see the calls of whoever set them, and no other's."""

from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_SET_HERE: ContextVar[frozenset[int]] = ContextVar("ptq4dit_hooks", default=frozenset())
"""Whose hooks listen in this context: a thread has its own, an asyncio task too, and `in_turns` hands its own on."""


class Hooks:
    """A ``with`` block whose hooks are gone behind it, whatever happens.

    A model is one object for all threads, and so are its hooks: without this, a picture that another thread draws from
    the same model meanwhile would be counted into a calibration, or be ended by a hook that has seen enough.
    """

    def __init__(self, *, everybody: bool = False) -> None:
        """Nothing is hooked yet.

        Args:
            everybody: see the calls of all threads.
        """
        self._everybody = everybody
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Hooks":
        _SET_HERE.set(_SET_HERE.get() | {id(self)})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _SET_HERE.set(_SET_HERE.get() - {id(self)})
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def before(self, module: nn.Module, hook: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        """Call ``hook(module, args, kwargs)`` before every forward; what it returns is what torch takes of such one."""
        self._handles.append(module.register_forward_pre_hook(self._own(hook), with_kwargs=True))

    def after(
        self, module: nn.Module, hook: Callable[[nn.Module, tuple[Any, ...], Any], Any], *, always: bool = False
    ) -> None:
        """Call ``hook(module, args, output)`` after every forward; ``always`` after one that failed, too."""
        self._handles.append(module.register_forward_hook(self._own(hook), always_call=always))

    def _own(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        def heard(*call: Any) -> Any:
            return hook(*call) if self._everybody or id(self) in _SET_HERE.get() else None

        return heard


def first_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What a layer is given, by place or by name."""
    given: Tensor = args[0] if args else next(iter(kwargs.values()))
    return given
