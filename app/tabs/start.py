"""Start: full precision against a quantized model from stored results; nothing to load, no torch."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components.controls import Shared
from app.components.part import html_part, script
from app.content import words
from app.services.stored import load_results
from app.state import Selection, within
from app.tabs import start_view as view


def create_start_tab(shared: Shared) -> None:
    """Build the tab: picture and switches on one side, what they changed on the other."""
    try:
        results = load_results()
    except ValueError as error:
        gr.Markdown(f"The stored results of the demo model are not here yet. {error}")
        return
    selection = Selection()
    index = view.matching_example(results, selection, 0)
    gr.Markdown(words("start"), elem_id="start-words")
    html_part(
        "start",
        view.opening(results, index, view.nearest(results, selection)),
        scripts=("store",),
        apply_default_css=False,
        elem_id="start",
        server_functions=[example],
        tables={str(index): view.table(results, index)},
        labels=list(shared.outline.labels),
        **view.ways(results),
    )
    _next_steps()


def _next_steps() -> None:
    """Where to go from here; the selection goes along."""
    with gr.Row(elem_id="start-next"):
        for text, tab in (
            ("Understand it in six steps", "Learn"),
            ("See which channels are salient", "Inspect"),
            ("Generate it live", "Compare"),
        ):
            button = gr.Button(text, size="sm", min_width=140)
            button.click(None, js=f"() => ({script('go_to_tab')})('{tab}')", api_visibility="private")


def example(index: int) -> dict[str, Any]:
    """What Start's script asks for: an example with all its stored pictures and words."""
    try:
        results = load_results()
        return view.table(results, within("example", index, 0, len(results.examples) - 1))
    except ValueError as error:
        return {"problem": str(error)}
