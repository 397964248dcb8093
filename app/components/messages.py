"""What a person or a program is told when a request cannot be met."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any, TypeVar

import gradio as gr

from app.services.loading import ModelMissing
from app.services.shelf import ROOT, without_paths

Handler = TypeVar("Handler", bound=Callable[..., Any])
UNFORESEEN = "Something went wrong here. It has been logged; try something else."
_LOG = logging.getLogger("app")
_OURS = re.compile(r"[A-Z]|[\w-]+( [\w-]+)?: |[^:]+: expected ")  # "Expected ...", "label: expected ..."; not Python's


@contextmanager
def explained() -> Iterator[None]:
    """Tell what is wrong with a request, in the page and through the API, and keep the traceback out of the log."""
    try:
        yield
    except (ValueError, ModelMissing) as error:
        raise gr.Error(in_words(error), print_exception=False) from None


def in_words(error: Exception) -> str:
    """What a visitor is told of an error: a sentence of ours without this machine's paths; another's is logged."""
    if _is_ours(error):
        return without_paths(str(error))
    _LOG.error("a handler failed", exc_info=error)
    return UNFORESEEN


def _is_ours(error: Exception) -> bool:
    """Whether an error is of a class of ours, or its words have our form and no library has raised it."""
    if type(error).__module__.split(".")[0] in ("app", "ptq4dit"):
        return True
    *_, (frame, _line) = walk_tb(error.__traceback__)
    raised = Path(frame.f_code.co_filename)
    own = raised.is_relative_to(ROOT) and "site-packages" not in raised.parts
    return own and type(error) is ValueError and _OURS.match(str(error)) is not None


def checked_by(check: Callable[..., Any]) -> Callable[[Handler], Handler]:
    """Mark a handler with what reads the same values at once and raises ValueError for those that make no sense.

    It is called before the question waits in any queue, so it may wait for nothing itself.
    """

    def mark(handler: Handler) -> Handler:
        handler.checked_by = check  # type: ignore[attr-defined]
        return handler

    return mark
