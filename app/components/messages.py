"""What a person or a program is told when a request cannot be met."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import gradio as gr

from app.services.loading import ModelMissing

Handler = TypeVar("Handler", bound=Callable[..., Any])
UNFORESEEN = "Something went wrong here. It has been logged; try something else."


@contextmanager
def explained() -> Iterator[None]:
    """Tell what is wrong with a request, in the page and through the API, and keep the traceback out of the log."""
    try:
        yield
    except (ValueError, ModelMissing) as error:
        raise gr.Error(str(error), print_exception=False) from None


def checked_by(check: Callable[..., Any]) -> Callable[[Handler], Handler]:
    """Mark a handler with what reads the same values at once and raises ValueError for those that make no sense.

    It is called before the question waits in any queue, so it may wait for nothing itself.
    """

    def mark(handler: Handler) -> Handler:
        handler.checked_by = check  # type: ignore[attr-defined]
        return handler

    return mark
