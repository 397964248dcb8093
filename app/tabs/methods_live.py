"""Two methods run live from the same noise: chosen, made with progress, drawn step by step, cancelled at will."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.context import Context

from app.components.chart import chart, shown
from app.components.controls import Shared
from app.components.messages import checked_by, explained
from app.components.part import html_part
from app.content import words
from app.services import generation, methods, running
from app.services.drawing import require_subject
from app.services.generation import Frame
from app.services.request import Request
from app.services.shelf import entry
from app.state import Selection, brief
from app.tabs import compare_view
from app.tabs import methods_live_view as view

QUIET: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}


def create_live_pair(shared: Shared) -> None:
    """Build the card: both methods, class and seed of the selection, Run and Cancel, then pictures and numbers."""
    with gr.Column(elem_classes="card", elem_id="methods-live"):
        gr.Markdown(words("pair"))
        offered = methods.choices()
        with gr.Row():
            first = gr.Dropdown(offered, value="rtn", label="Method A", elem_id="methods-first")
            second = gr.Dropdown(offered, value=methods.PLAIN, label="Method B", elem_id="methods-second")
        with gr.Row():
            run = gr.Button("Run both", variant="primary", elem_id="methods-run", min_width=120, scale=2)
            cancel = gr.Button("Cancel", interactive=False, elem_id="methods-cancel", min_width=90)
        progress = html_part("progress", _idle(), elem_id="methods-progress")
        cards = html_part("cards", {"label": "Pictures", "cards": []}, elem_id="methods-cards")
        with gr.Column(visible=False, elem_id="methods-details") as details:
            table = html_part("table", {"label": "Numbers", "columns": [], "rows": []}, elem_id="methods-numbers")
            drift = chart("Drift of both methods", 300)
    views = [progress, cards, details, table, drift, cancel]
    run.click(
        run_pair,
        [first, second, *shared.inputs],
        views,
        show_progress="hidden",
        concurrency_limit=8,  # those who learn wait in a line of their own, those who draw in that of all
        concurrency_id="methods",
        api_visibility="private",
    ).then(lambda: gr.update(interactive=False), None, cancel, **QUIET)
    cancel.click(cancel_pair, None, None, **QUIET)
    if Context.root_block is not None:
        Context.root_block.unload(cancel_pair)


def _idle() -> dict[str, Any]:
    return compare_view.idle(Selection().steps, "Choose two methods")


def make_request(first: str, second: str, selection: Selection) -> Request:
    """The picture to draw by both methods. Raises ValueError where it cannot be drawn."""
    bits = selection.weight_bits, selection.activation_bits
    variants = tuple(methods.variant(name, *bits) for name in (first, second))
    if first == second:
        raise ValueError(f"methods: expected two different ones; got {brief(first)} twice. Choose another for A or B")
    if variants[0].is_float:
        raise ValueError("bits: expected 2 to 8 for weights or activations; got float for both. Choose fewer above")
    return Request(
        model=selection.model,
        class_id=selection.class_id,
        prompt=selection.prompt,
        seed=selection.seed,
        steps=selection.steps,
        guidance=selection.guidance,
        strength=selection.strength,
        variants=variants,
    )


def _asked(first: str, second: str, *values: Any) -> Request:
    """What `run_pair` is asked for."""
    selection = Selection.from_controls(*values)
    entry(selection.model)
    request = make_request(first, second, selection)
    require_subject(request)
    return request


@checked_by(_asked)
def run_pair(request: gr.Request, first: str, second: str, *values: Any) -> Iterator[list[Any]]:
    """Make both models and draw with them, shown as it goes: progress, cards, details, table, chart, cancel."""
    session = f"{request.session_hash or ''}/methods"
    with explained(), running.begin(session) as cancelled:
        asked = _asked(first, second, *values)
        titles = [methods.title(name) for name in (first, second)]
        frame, pictures = Frame(request=asked, note="Starting"), None
        for frame in generation.run(asked, cancelled):
            yield _update(frame, titles, frame.step == 0 or frame.finished or frame.pictures is not pictures)
            pictures = frame.pictures
        if not frame.finished:
            note = f"Cancelled at step {frame.step} of {asked.steps}"
            yield [compare_view.progress(frame) | {"note": note}, *[gr.skip()] * 5]


def _update(frame: Frame, titles: list[str], new_pictures: bool) -> list[Any]:
    going = gr.update(interactive=not frame.finished)
    progress = compare_view.progress(frame)
    if not new_pictures:
        return [progress, *[gr.skip()] * 4, going]
    drawn = shown(view.chart(frame, titles)) if frame.pictures else gr.skip()
    table = view.numbers(frame, titles) if frame.finished else gr.skip()
    details = gr.update(visible=True) if frame.finished else gr.skip()
    return [progress, view.cards(frame, titles), details, table, drawn, going]


def cancel_pair(request: gr.Request) -> None:
    """Cancel this session's pair, if it runs: models being made stop between two pieces of work, drawing in a step."""
    running.cancel(f"{request.session_hash or ''}/methods")
