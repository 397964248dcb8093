"""Start: full precision against a quantized model from stored results; nothing to load, no torch."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components.controls import Shared
from app.components.part import html_part
from app.content import words
from app.services.stored import Choice, StoredResults, load_results
from app.state import Selection
from app.tabs import start_view as view

QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}


def create_start_tab(shared: Shared) -> None:
    """Build the tab: picture and switches on one side, what they changed on the other."""
    try:
        results = load_results()
    except ValueError as error:
        gr.Markdown(f"The stored results of the demo model are not here yet. {error}")
        return
    first = view.nearest(results, Selection())
    with gr.Row(elem_id="start"):
        with gr.Column(scale=6, min_width=300):
            wipe = html_part("wipe", view.wipe(results, 0, first), elem_id="start-wipe")
            switches = _switches(results, first)
        with gr.Column(scale=5, min_width=300):
            gr.Markdown(words("start"), elem_id="start-words")
            verdict = html_part("verdict", view.verdict(results, 0, first), elem_id="start-verdict")
            strip = html_part("filmstrip", view.filmstrip(results, 0), elem_id="start-examples")
    _wire(shared, results, [strip, *switches], [wipe, verdict])


def _switches(results: StoredResults, choice: Choice) -> list[gr.components.Component]:
    """CSB, SSC, the salience dial and the bits, in that order."""
    with gr.Row(elem_id="start-switches"):
        csb = gr.Checkbox(choice.csb, label="CSB: balance the channels", container=False, min_width=200)
        ssc = gr.Checkbox(
            choice.ssc, label="SSC: weigh the timesteps", container=False, min_width=200, interactive=choice.csb
        )
    with gr.Row(elem_id="start-dial"):
        dial = [("as trained" if n == 1 else f"salience x {n}, function unchanged", n) for n in results.strengths]
        strength = gr.Radio(dial, value=choice.strength, label="Salience dial", min_width=280, scale=3)
        bits = gr.Radio(list(results.bits), value=choice.bits, label="Bits", min_width=160, scale=2)
    return [csb, ssc, strength, bits]


def _wire(
    shared: Shared,
    results: StoredResults,
    controls: list[gr.components.Component],
    views: list[gr.components.Component],
) -> None:
    strip, csb, ssc, strength, bits = controls

    def switch(strip: dict[str, Any], csb: bool, ssc: bool, strength: int, bits: str) -> list[Any]:
        """A switch under the picture moved: the views, then the shared controls."""
        choice = Choice(bits, strength, csb, ssc and csb)
        return [*view.views(results, strip["chosen"], choice), gr.update(interactive=csb), *view.shared_values(choice)]

    def pick(event: gr.EventData, csb: bool, ssc: bool, strength: int, bits: str) -> list[Any]:
        """An example was chosen: the views, the strip, then the shared class and seed."""
        example = results.example(event.index)
        shown = view.views(results, event.index, Choice(bits, strength, csb, ssc))
        return [*shown, view.filmstrip(results, event.index), example.class_id, example.seed]

    def follow(strip: dict[str, Any], *values: Any) -> list[Any]:
        """The selection moved elsewhere: the views and the switches follow it."""
        selection = Selection.from_controls(*values)
        choice = view.nearest(results, selection)
        index = view.matching_example(results, selection, strip["chosen"])
        return [
            *view.views(results, index, choice, view.note(selection, choice)),
            view.filmstrip(results, index),
            choice.csb,
            gr.update(value=choice.ssc, interactive=choice.csb),
            choice.strength,
            choice.bits,
        ]

    moved = [shared.csb, shared.ssc, shared.strength, shared.weight_bits, shared.activation_bits]
    for control in (csb, ssc, strength, bits):
        control.input(switch, controls, [*views, ssc, *moved], **QUIET)
    strip.select(pick, [csb, ssc, strength, bits], [*views, strip, shared.class_id, shared.seed], **QUIET)
    gr.on(
        shared.changed("csb", "ssc", "strength", "weight_bits", "activation_bits", "class_id", "seed"),
        follow,
        [strip, *shared.inputs],
        [*views, *controls],
        trigger_mode="always_last",
        **QUIET,
    )
