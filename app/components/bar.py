"""The selection bar: what is chosen stays in sight on every tab and in the page's address."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from app.components.controls import Shared
from app.components.part import script
from app.state import Selection


def create_bar(shared: Shared) -> None:
    """Render the bar and wire it: SSC follows CSB, the address follows everything."""
    with gr.Row(elem_id="bar"):
        shared.csb.render()
        shared.ssc.render()
        shared.weight_bits.render()
        shared.activation_bits.render()
        shared.strength.render()
        copy = gr.Button("Copy link", size="sm", elem_id="copy-link")
    shared.csb.change(allow_ssc, shared.csb, shared.ssc, queue=False, show_progress="hidden", api_visibility="private")
    gr.on(shared.changed(), None, shared.inputs, js=write_address())
    copy.click(None, js=script("copy_link"))


def allow_ssc(csb: bool) -> dict[str, Any]:
    """SSC weighs the timesteps for CSB: without CSB there is nothing to switch."""
    return gr.update(interactive=csb)


def write_address() -> str:
    """The script that writes the controls' values, in field order, to the page's address."""
    defaults = json.dumps(Selection().to_query(everything=True))
    return f"(...values) => ({script('address')})({defaults}, values)"
