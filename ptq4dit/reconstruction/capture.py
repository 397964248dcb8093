"""Run a module until it comes to another one inside it, and keep what that one is given or makes."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ptq4dit.model.hooks import Hooks

_Found = TypeVar("_Found")


class _ReachedError(Exception):
    """Thrown at the module that is looked at: what follows it need not be computed."""


def call_of(outer: nn.Module, path: str, run: Callable[[nn.Module], object]) -> tuple[list[Any], pytree.TreeSpec]:
    """The arguments that a module inside is called with, as leaves and structure of ``(args, kwargs)``.

    Args:
        outer: the module that is run.
        path: of the module inside it.
        run: calls ``outer``.

    Raises:
        ValueError: if the run does not come to it.
    """
    found: list[tuple[list[Any], pytree.TreeSpec]] = []

    def catch(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(pytree.tree_flatten((args, kwargs)))
        raise _ReachedError

    with Hooks() as hooks:
        hooks.before(outer.get_submodule(path), catch)
        return _run(outer, path, run, found)


def input_of(outer: nn.Module, path: str, run: Callable[[nn.Module], object]) -> Tensor:
    """What the layer inside is given; see `call_of`."""
    value = call_of(outer, path, run)[0][0]
    assert isinstance(value, Tensor)
    return value


def output_of(outer: nn.Module, path: str, run: Callable[[nn.Module], object]) -> Tensor:
    """What the layer inside makes; see `call_of`."""
    found: list[Tensor] = []

    def catch(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        found.append(output)
        raise _ReachedError

    with Hooks() as hooks:
        hooks.after(outer.get_submodule(path), catch)
        return _run(outer, path, run, found)


def reached(outer: nn.Module, paths: list[str], run: Callable[[nn.Module], object]) -> list[str]:
    """Those of the modules inside that a whole run comes to, in the order in which it first does."""
    seen: dict[str, None] = {}

    def note(path: str) -> Callable[..., None]:
        return lambda *_: seen.setdefault(path)

    with Hooks() as hooks:
        for path in paths:
            hooks.before(outer.get_submodule(path), note(path))
        run(outer)
    return list(seen)


def _run(outer: nn.Module, path: str, run: Callable[[nn.Module], object], found: list[_Found]) -> _Found:
    with suppress(_ReachedError):
        run(outer)
    if not found:
        raise ValueError(
            f"Expected a forward pass of {type(outer).__name__} to use {path!r}, but it did not. Leave that layer in "
            "float, or give data that make the model use it."
        )
    return found[0]
