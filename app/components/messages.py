"""What a person or a program is told when a request cannot be met."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from app.services.models import ModelMissing


@contextmanager
def explained() -> Iterator[None]:
    """Tell what is wrong with a request, in the page and through the API, and keep the traceback out of the log."""
    try:
        yield
    except (ValueError, ModelMissing) as error:
        raise gr.Error(str(error), print_exception=False) from None
