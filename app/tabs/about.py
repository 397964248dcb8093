"""About: the paper, the words used and where the numbers come from."""

from __future__ import annotations

import gradio as gr

from app.components.controls import Shared
from app.content import words


def create_about_tab(shared: Shared) -> None:
    """Build the tab; it needs nothing of the selection."""
    gr.Markdown(words("about"))
