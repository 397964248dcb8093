"""The selection bar: what is chosen stays in sight, in the address of the page, and comes back from a link."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components.controls import Shared
from app.state import FIELDS, Selection


def create_bar(page: gr.Blocks, shared: Shared) -> None:
    """Render the bar and wire it: SSC follows CSB, a link opens the view that it names."""
    with gr.Row(elem_id="bar"):
        shared.csb.render()
        shared.ssc.render()
        shared.weight_bits.render()
        shared.activation_bits.render()
        shared.strength.render()
    shared.csb.change(
        allow_ssc, shared.csb, shared.ssc, queue=False, show_progress="hidden", api_visibility="private"
    )
    page.load(open_link, None, shared.inputs, api_visibility="private", show_progress="hidden")


def allow_ssc(csb: bool) -> dict[str, Any]:
    """SSC weighs the timesteps for CSB: without CSB there is nothing to switch."""
    return gr.update(interactive=csb)


def open_link(request: gr.Request) -> list[Any]:
    """The controls' values that the page's address asks for; says what of it was ignored."""
    selection, ignored = Selection.from_query(dict(request.query_params))
    for message in ignored:
        gr.Warning(f"Part of the link was ignored. {message}")
    return [getattr(selection, name) for name in FIELDS]
