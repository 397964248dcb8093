"""The selection bar: what is chosen stays in sight on every tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components.controls import Shared


def create_bar(shared: Shared) -> None:
    """Render the bar and wire it: SSC follows CSB."""
    with gr.Row(elem_id="bar"):
        shared.csb.render()
        shared.ssc.render()
        shared.weight_bits.render()
        shared.activation_bits.render()
        shared.strength.render()
    shared.csb.change(allow_ssc, shared.csb, shared.ssc, queue=False, show_progress="hidden", api_visibility="private")


def allow_ssc(csb: bool) -> dict[str, Any]:
    """SSC weighs the timesteps for CSB: without CSB there is nothing to switch."""
    return gr.update(interactive=csb)
