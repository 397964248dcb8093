"""Two methods run live from the same noise: chosen, made with progress, drawn step by step, cancelled at will."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.context import Context

from app.components.chart import chart, shown
from app.components.controls import Shared
from app.components.messages import checked_by, explained
from app.components.own import tell
from app.components.pace import Beat, paced
from app.components.part import html_part
from app.content import words
from app.services import generation, methods, running
from app.services.drawing import require_subject
from app.services.request import Request
from app.services.shelf import entry
from app.state import Selection, brief
from app.tabs import compare_view
from app.tabs import methods_live_view as view

NO_CARDS: dict[str, Any] = {"label": "Pictures", "cards": [], **compare_view.NOTHING_ASKED}
NO_NUMBERS: dict[str, Any] = {"label": "Numbers", "columns": [], "rows": []}
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
        ages = ("store", "age")
        progress = html_part("progress", _idle(), scripts=ages, elem_id="methods-progress")
        cards = html_part("cards", NO_CARDS, scripts=ages, elem_id="methods-cards")
        with gr.Column(visible=False, elem_id="methods-details") as details:
            table = html_part("table", NO_NUMBERS, elem_id="methods-numbers")
        drift = chart("Drift of both methods", 300, compare_view.empty_chart(Selection().steps))
    views = [progress, cards, details, table, drift, cancel]
    tell({"first": first, "second": second})
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
    shared.model.change(start_anew, None, views, **QUIET)
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
    return Request.of(selection, variants)


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
    session = _session(request)
    with explained(), running.begin(session) as cancelled:
        asked = _asked(first, second, *values)
        titles = [methods.title(name) for name in (first, second)]
        bits = {name: getattr(Selection.from_controls(*values), name) for name in ("weight_bits", "activation_bits")}
        made = compare_view.made_for(asked, first=first, second=second, **bits)
        for beat in paced(generation.run(asked, cancelled)):
            if beat.cancelled and not running.is_last(session, cancelled):
                return  # another run of the session is shown already
            yield _update(beat, titles, made)


def _update(beat: Beat, titles: list[str], made: dict[str, Any]) -> list[Any]:
    """What is new at a moment of a run."""
    frame, progress = beat.frame, compare_view.progress(beat.frame) | made
    if beat.cancelled:  # what there is stays, and says so
        note = f"Cancelled at step {frame.step} of {frame.request.steps}"
        return [progress | {"note": note}, *[gr.skip()] * 5]
    going = gr.update(interactive=not frame.finished)
    if beat.first:
        return [progress, *_nothing(frame.request.steps), going]
    cards = view.cards(frame, titles) | made if beat.pictures or frame.finished else gr.skip()
    drawn = shown(view.chart(frame, titles)) if beat.chart else gr.skip()
    ended = [gr.update(visible=True), view.numbers(frame, titles)] if frame.finished else [gr.skip(), gr.skip()]
    return [progress, cards, *ended, drawn, going]


def _nothing(steps: int) -> list[Any]:
    """Cards, details, table and chart without a trace of a pair before."""
    return [NO_CARDS, gr.update(visible=False), NO_NUMBERS, shown(compare_view.empty_chart(steps))]


def start_anew(request: gr.Request) -> list[Any]:
    """Another model was chosen: no picture and no number of the one before stays, and its run ends."""
    cancel_pair(request)
    return [_idle(), *_nothing(Selection().steps), gr.update(interactive=False)]


def cancel_pair(request: gr.Request) -> None:
    """Cancel this session's pair, if it runs: models being made stop between two pieces of work, drawing in a step."""
    running.cancel(_session(request))


def _session(request: gr.Request) -> str:
    return f"{request.session_hash or ''}/methods"
