"""A tab's own controls: what they say is known to the whole page, and stands in its link where that is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping

import gradio as gr

from app.components.part import script


def tell(controls: Mapping[str, gr.components.Component], link: Mapping[str, str] | None = None) -> None:
    """Whenever one of them moves, let the page know what they say, by name.

    `link` holds what each says by default: all else goes to the page's address.
    """
    written = f"({script('address')})({json.dumps(link)}, values)" if link else "[]"
    said = f"({script('own')})({json.dumps(list(controls))}, values)"
    gr.on(
        [control.change for control in controls.values()],  # type: ignore[attr-defined]
        None,
        list(controls.values()),
        None,
        js=f"(...values) => {{ {said}; return {written}; }}",
        show_progress="hidden",
        api_visibility="private",
    )
