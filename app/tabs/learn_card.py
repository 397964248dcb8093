"""One lesson of Learn as it stands on the page: words, control, chart, reading, and a question to predict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.components.chart import chart
from app.components.part import html_part
from app.content import words
from app.content.lessons import Lesson
from app.services import learning

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]
LOADING = "The chart is drawn as you come to it, once the model is loaded."
HEIGHTS = {"rounding": 340, "outlier": 400, "salience": 400, "balance": 400}
USUAL_HEIGHT = 440
START_BITS, START_OUTLIER = 4, 6
NO_LADDER: dict[str, Any] = {"grade": "", "ladder": []}
SIDE = {"src": "", "alt": "", "name": ""}


@dataclass(frozen=True, kw_only=True)
class Card:
    """The parts of one lesson that events name: its control, what is drawn, and its question."""

    place: gr.Column
    control: gr.components.Component
    more: list[gr.components.Component]
    drawn: list[Any]
    extra: gr.HTML | None
    picked: gr.Radio
    reveal: gr.Button
    answer: gr.Markdown


def create_card(number: int, about: Lesson, make_control: Callable[[], gr.components.Component]) -> Card:
    """One lesson: words, control and formula on one side, chart, reading and question on the other."""
    with gr.Column(elem_id=about.anchor, elem_classes=["card", "lesson"]) as place:
        gr.Markdown(f"### <span class='lesson-number'>{number}</span> {about.title}")
        with gr.Row(elem_classes="lesson-body"):
            with gr.Column(scale=5, min_width=280):
                markdown(words(f"learn/{about.key}"), "lesson-words")
                control = make_control()
                more = _grid() if about.key == "rounding" else []
                formula = markdown("", "formula")
            with gr.Column(scale=7, min_width=280):
                extra = _outlier() if about.key == "outlier" else None
                height = HEIGHTS.get(about.key, USUAL_HEIGHT)
                plot = _pictures() if about.key == "pictures" else chart(about.title, height)
                reading = markdown(LOADING, "reading")
                extra = _decibels() if about.key == "pictures" else extra
        picked, reveal, answer = _question(about)
    drawn: list[Any] = [plot, formula, reading]
    asked: dict[str, Any] = {"picked": picked, "reveal": reveal, "answer": answer}
    return Card(place=place, control=control, more=more, drawn=drawn, extra=extra, **asked)


def _grid() -> list[gr.components.Component]:
    """Scale and zero point, for a reader who wants another grid than the one that spans the values."""
    most, far = learning.MOST_STRETCH, learning.MOST_SHIFT
    return [
        gr.Slider(0.2, most, 1, step=0.05, label="Scale, times the one that spans the values", elem_id="learn-scale"),
        gr.Slider(-far, far, 0, step=1, label="Zero point, moved by", elem_id="learn-zero"),
    ]


def _outlier() -> gr.HTML:
    """The outlier on the whole number line, to drag."""
    value = {"size": START_OUTLIER, "ordinary": learning.ORDINARY.round(4).tolist()}
    return html_part("outlier", value, apply_default_css=False, elem_id="learn-outlier-line")


def _pictures() -> gr.HTML:
    """Full precision against quantized, with a divider; empty until the lesson is opened."""
    return html_part("wipe", {"left": SIDE, "right": SIDE}, elem_id="learn-wipe")


def _decibels() -> gr.HTML:
    """What decibels look like, with this picture's own."""
    return html_part("ladder", NO_LADDER, apply_default_css=False, elem_id="learn-ladder")


def _question(about: Lesson) -> tuple[gr.Radio, gr.Button, gr.Markdown]:
    """What the reader predicts before it is revealed: question, answers, button and verdict in one place."""
    with gr.Column(elem_classes="question"):
        choices = [(text, i) for i, text in enumerate(about.answers)]
        picked = gr.Radio(choices, label=f"Predict: {about.question}", value=None)
        reveal = gr.Button("Reveal", size="sm", elem_classes="reveal", min_width=96)
        answer = markdown("", "answer")
    return picked, reveal, answer


def markdown(text: str, *classes: str) -> gr.Markdown:
    """Markdown with formulas between dollar signs."""
    return gr.Markdown(text, latex_delimiters=LATEX, elem_classes=list(classes))
