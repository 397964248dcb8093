"""Learn: five ideas, each with one control, one chart, the reader's own numbers and a question to predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import Context

from app.components.chart import chart
from app.components.controls import Shared
from app.components.part import html_part, script
from app.content import words
from app.content.lessons import LESSONS, Lesson
from app.services import learning
from app.state import LAST_TIMESTEP, Selection
from app.tabs import learn_handlers as handlers

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]
LOADING = "The model is loading; the chart appears by itself in a few seconds."
HEIGHTS = {"rounding": 340, "outlier": 400, "salience": 400, "balance": 400, "timesteps": 440}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
START_BITS, START_OUTLIER = 4, 6


@dataclass(frozen=True, kw_only=True)
class _Card:
    """The parts of one lesson that events name: its control, what is drawn, and its question."""

    control: gr.components.Component
    drawn: list[gr.components.Component]
    picked: gr.Radio
    reveal: gr.Button
    answer: gr.Markdown


def create_learn_tab(shared: Shared) -> None:
    """Build the lessons one below the other, and let them follow their controls and the shared selection."""
    _markdown(words("learn/intro"))
    html_part("lessons", {"lessons": [{"anchor": one.anchor, "short": one.short} for one in LESSONS]}, padding=False)
    start = Selection()
    controls: dict[str, Callable[[], gr.components.Component]] = {
        "rounding": lambda: gr.Slider(2, 8, START_BITS, step=1, label="Bits"),
        "outlier": lambda: gr.Slider(1, learning.LARGEST_OUTLIER, START_OUTLIER, step=0.5, label="Outlier"),
        "salience": lambda: gr.Dropdown(shared.outline.layers, value=start.layer, label="Layer"),
        "balance": lambda: gr.Slider(0, 100, 0, step=5, label="How far balanced, %"),
        "timesteps": lambda: gr.Slider(0, LAST_TIMESTEP, start.timestep, step=1, label="Timestep"),
    }
    cards = {one.key: _card(number, one, controls[one.key]) for number, one in enumerate(LESSONS, 1)}
    _closing()
    _wire_numbers(cards)
    _wire_layer(shared, cards)
    _wire_questions(shared, cards)


def _card(number: int, about: Lesson, make_control: Callable[[], gr.components.Component]) -> _Card:
    """One lesson: words, control and formula on one side, chart, reading and question on the other."""
    with gr.Column(elem_id=about.anchor, elem_classes=["card", "lesson"]):
        gr.Markdown(f"### <span class='lesson-number'>{number}</span> {about.title}")
        with gr.Row(elem_classes="lesson-body"):
            with gr.Column(scale=5, min_width=280):
                _markdown(words(f"learn/{about.key}"), "lesson-words")
                control = make_control()
                formula = _markdown("", "formula")
            with gr.Column(scale=7, min_width=280):
                plot = chart(about.title, HEIGHTS[about.key])
                reading = _markdown(LOADING, "reading")
        picked, reveal, answer = _question(about)
    return _Card(control=control, drawn=[plot, formula, reading], picked=picked, reveal=reveal, answer=answer)


def _question(about: Lesson) -> tuple[gr.Radio, gr.Button, gr.Markdown]:
    """What the reader predicts before it is revealed."""
    with gr.Row(elem_classes="question"):
        choices = [(text, i) for i, text in enumerate(about.answers)]
        picked = gr.Radio(choices, label=f"Predict: {about.question}", value=None, scale=1, min_width=260)
        reveal = gr.Button("Reveal", size="sm", scale=0, min_width=96)
    return picked, reveal, _markdown("", "answer")


def _closing() -> None:
    """Where the pictures are, and the words once more."""
    with gr.Column(elem_classes="card"):
        _markdown(words("learn/pictures"))
        with gr.Row():
            for name in ("Start", "Compare"):
                go = gr.Button(f"To {name}", size="sm", scale=0, min_width=140)
                go.click(None, js=f"() => ({script('go_to_tab')})('{name}')", api_visibility="private")
    with gr.Accordion("Glossary", open=False, elem_id="learn-glossary"):
        _markdown(words("learn/glossary"))


def _markdown(text: str, *classes: str) -> gr.Markdown:
    """Markdown with formulas between dollar signs."""
    return gr.Markdown(text, latex_delimiters=LATEX, elem_classes=list(classes))


def _wire_numbers(cards: dict[str, _Card]) -> None:
    """The lessons that need no model: plain arithmetic, drawn without the queue."""
    drawers: dict[str, Callable[..., list[Any]]] = {
        "rounding": handlers.draw_rounding,
        "outlier": handlers.draw_outlier,
    }
    for key, draw in drawers.items():
        card = cards[key]
        event: dict[str, Any] = {"fn": draw, "inputs": card.control, "outputs": card.drawn, "queue": False}
        _on_input(card.control, **event)
        _on_open(**event)


def _wire_layer(shared: Shared, cards: dict[str, _Card]) -> None:
    """The lessons that look at one layer; their layer and timestep are the shared ones."""
    layer, amount, timestep = (cards[key].control for key in ("salience", "balance", "timesteps"))
    drawn = [part for key in ("salience", "balance", "timesteps") for part in cards[key].drawn]
    inputs = [layer, shared.strength, amount, timestep]
    everything: dict[str, Any] = {"fn": handlers.draw_layer, "inputs": inputs, "outputs": drawn}
    _on_open(
        fn=handlers.open_lessons,
        inputs=[shared.layer, shared.timestep, shared.strength, amount],
        outputs=[layer, timestep, *drawn],
    )
    _on_input(layer, **everything)
    shared.strength.change(**everything, **QUIET, trigger_mode="always_last", concurrency_limit=4)
    _on_input(amount, handlers.draw_balance, [layer, shared.strength, amount], cards["balance"].drawn)
    _on_input(timestep, handlers.draw_timesteps, [layer, shared.strength, timestep], cards["timesteps"].drawn)
    for own, common in ((layer, shared.layer), (timestep, shared.timestep)):
        settled = own.release if isinstance(own, gr.Slider) else own.input  # type: ignore[attr-defined]
        settled(None, own, common, js="(value) => value", api_visibility="private")


def _wire_questions(shared: Shared, cards: dict[str, _Card]) -> None:
    """Each question's answer, with the numbers on show."""
    layer = cards["salience"].control
    asked: dict[str, tuple[Callable[..., str], Sequence[gr.components.Component]]] = {
        "rounding": (handlers.reveal_rounding, [cards["rounding"].control]),
        "outlier": (handlers.reveal_outlier, []),
        "salience": (handlers.reveal_salience, [shared.strength]),
        "balance": (handlers.reveal_balance, [layer, shared.strength]),
        "timesteps": (handlers.reveal_timesteps, [layer, shared.strength]),
    }
    for key, (reveal, inputs) in asked.items():
        card = cards[key]
        card.reveal.click(reveal, [card.picked, *inputs], card.answer, **QUIET)
        card.picked.input(None, None, card.answer, js="() => ''", api_visibility="private")


def _on_input(control: Any, fn: Callable[..., list[Any]], inputs: Any, outputs: Any, queue: bool = True) -> None:
    """Redraw while the reader moves a control; of many moves the last counts."""
    control.input(
        fn, inputs, outputs, queue=queue, trigger_mode="always_last", concurrency_limit=4 if queue else None, **QUIET
    )


def _on_open(fn: Callable[..., list[Any]], inputs: Any, outputs: Any, queue: bool = True) -> None:
    """Draw when the tab is opened."""
    tab = Context.block
    if isinstance(tab, gr.Tab):
        tab.select(fn, inputs, outputs, queue=queue, concurrency_limit=4 if queue else None, **QUIET)
