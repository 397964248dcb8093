"""Start: full precision against a quantized model from stored results; nothing to load, no torch."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components.controls import Shared
from app.components.part import html_part, script
from app.content import words
from app.services.stored import load_results
from app.state import Selection
from app.tabs import start_view as view

QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
FOLLOWED = ("csb", "ssc", "strength", "weight_bits", "activation_bits")


def create_start_tab(shared: Shared) -> None:
    """Build the tab: picture and switches on one side, what they changed on the other."""
    try:
        results = load_results()
    except ValueError as error:
        gr.Markdown(f"The stored results of the demo model are not here yet. {error}")
        return
    selection = Selection()
    choice, index = view.nearest(results, selection), view.matching_example(results, selection, 0)
    gr.Markdown(words("start"), elem_id="start-words")
    with gr.Row(elem_id="start"):
        with gr.Column(scale=6, min_width=300):
            wipe = html_part("wipe", view.wipe(results, index, choice), elem_id="start-wipe")
            board = html_part("switchboard", view.switchboard(results, choice), elem_id="start-switches")
        with gr.Column(scale=5, min_width=300):
            verdict = html_part("verdict", view.verdict(results, index, choice), elem_id="start-verdict")
            strip = html_part("filmstrip", view.filmstrip(results, index), elem_id="start-examples")
            _next_steps()
    views = [wipe, verdict, board]
    moved = [getattr(shared, name) for name in FOLLOWED]
    board.select(switch, [board, strip], [*views, *moved], **QUIET)
    strip.select(pick, [board], [*views, strip, shared.class_id, shared.seed], **QUIET)
    gr.on(
        shared.changed(*FOLLOWED, "class_id", "seed"),
        follow,
        [board, strip, *shared.inputs],
        [*views, strip],
        trigger_mode="always_last",
        **QUIET,
    )


def _next_steps() -> None:
    """Where to go from here; the selection goes along."""
    with gr.Row(elem_id="start-next"):
        for text, tab in (("Generate it live", "Compare"), ("See which channels are salient", "Inspect")):
            button = gr.Button(text, size="sm", min_width=140)
            button.click(None, js=f"() => ({script('go_to_tab')})('{tab}')", api_visibility="private")


def switch(event: gr.EventData, board: dict[str, Any], strip: dict[str, Any]) -> list[Any]:
    """A switch under the picture was pressed: the views, then the shared controls that it stands for."""
    results = load_results()
    choice = view.pressed(view.chosen(board), event.name, event.to)
    return [*view.views(results, strip["chosen"], choice), *view.shared_values(choice)]


def pick(event: gr.EventData, board: dict[str, Any]) -> list[Any]:
    """An example was chosen: the views, the strip, then the shared class and seed."""
    results = load_results()
    example = results.example(event.index)
    shown = view.views(results, event.index, view.chosen(board))
    return [*shown, view.filmstrip(results, event.index), example.class_id, example.seed]


def follow(board: dict[str, Any], strip: dict[str, Any], *values: Any) -> list[Any]:
    """The selection moved somewhere: the views follow it as closely as what is stored allows."""
    results, selection = load_results(), Selection.from_controls(*values)
    choice = view.nearest(results, selection)
    index = view.matching_example(results, selection, strip["chosen"])
    remark, here = view.remark(selection, choice), index == strip["chosen"]
    if here and choice == view.chosen(board) and remark == board["remark"]:
        return [gr.skip()] * 4
    return [*view.views(results, index, choice, remark), gr.skip() if here else view.filmstrip(results, index)]
