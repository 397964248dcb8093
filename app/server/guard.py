"""The last resort: whatever a handler did not foresee is logged and told in words of ours."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import gradio as gr

from app.components.messages import UNFORESEEN

_LOG = logging.getLogger("app")


def guard(page: gr.Blocks) -> None:
    """Guard every handler of a page's events and every function that its parts ask."""
    for function in page.fns.values():
        if function.fn is not None:
            function.fn = guarded(function.fn)
    for block in page.blocks.values():
        for function in getattr(block, "server_fns", ()):
            setattr(block, function.__name__, answering(function))


def answering(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that a part of the page asks; what it raises becomes its answer."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return guarded(function)(*args, **kwargs)
        except gr.Error as error:
            return {"problem": error.message}

    return call


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; what it raises beside `gr.Error` becomes one."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _guarding(function.__name__):
            return function(*args, **kwargs)

    @wraps(function)
    def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with _guarding(function.__name__):
            yield from function(*args, **kwargs)

    return generate if inspect.isgeneratorfunction(function) else call


@contextmanager
def _guarding(name: str) -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except Exception:
        _LOG.exception("%s failed", name)
        raise gr.Error(UNFORESEEN, print_exception=False) from None
