"""Start: full precision against a quantized model from stored results; nothing to load, no torch."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components.controls import Shared
from app.components.messages import in_words
from app.components.part import html_part, script
from app.content import words
from app.services.fitting import opening
from app.services.stored import load_results
from app.state import within
from app.tabs import start_view as view


def create_start_tab(shared: Shared) -> None:
    """Build the tab: picture and switches on one side, what they changed on the other."""
    gr.Markdown(words("start"), elem_id="start-words")
    first = examples(shared.outline.name)
    html_part(
        "start",
        view.NOTHING | ({"problem": first["problem"]} if "problem" in first else first["opening"]),
        scripts=("store",),
        apply_default_css=False,
        elem_id="start",
        server_functions=[examples, example],
        model=shared.outline.name,
        stored=first,
    )
    _next_steps()


def _next_steps() -> None:
    """Where to go from here; the selection goes along."""
    with gr.Row(elem_id="start-next"):
        for text, tab in (
            ("Understand it in nine lessons", "Learn"),
            ("See which channels are salient", "Inspect"),
            ("Generate it live", "Compare"),
        ):
            button = gr.Button(text, variant="primary", size="lg", min_width=240)
            button.click(None, js=f"() => ({script('go_to_tab')})('{tab}')", api_visibility="private")


def examples(model: Any) -> dict[str, Any]:
    """What Start's script asks for when a model is opened: its examples and how they are found, one of them whole.

    The problem in words where nothing is stored of that model.
    """
    try:
        results = load_results(model)
        selection = opening(model)
    except ValueError as error:
        return {"problem": in_words(error)}
    usual = view.matching_example(results, selection, 0), view.nearest(results, selection)
    index, choice = results.telling or usual
    shown = view.opening(results, index, choice)
    return {"opening": view.NOTHING | shown, "tables": {str(index): view.table(results, index)}, **view.ways(results)}


def example(question: Any) -> dict[str, Any]:
    """What Start's script asks for: an example with all its stored pictures and words, [model, index]."""
    try:
        model, index = question if isinstance(question, list) and len(question) == 2 else ("", None)
        results = load_results(model)
        return view.table(results, within("example", index, 0, len(results.examples) - 1))
    except ValueError as error:
        return {"problem": in_words(error)}
