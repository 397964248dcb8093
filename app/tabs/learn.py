"""Learn: six ideas, each with one control, one chart, the reader's own numbers and a question to predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import Context

from app.balancing import NAMES, WAYS
from app.components.chart import chart
from app.components.controls import Shared
from app.components.follower import follow
from app.components.messages import explained
from app.components.part import html_part, script
from app.content import words
from app.content.lessons import LESSONS, Lesson
from app.services import learning
from app.services.fitting import fit
from app.services.models import layers
from app.state import LAST_TIMESTEP, Selection
from app.tabs import learn_answers as answers
from app.tabs import learn_handlers as handlers

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]
LOADING = "The model is loading; the chart appears by itself in a few seconds."
HEIGHTS = {"rounding": 340, "outlier": 400, "salience": 400, "balance": 400, "timesteps": 440}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
START_BITS, START_OUTLIER = 4, 6
_SIDE = {"src": "", "alt": "", "name": ""}


@dataclass(frozen=True, kw_only=True)
class _Card:
    """The parts of one lesson that events name: its control, what is drawn, and its question."""

    place: gr.Column
    control: gr.components.Component
    more: list[gr.components.Component]
    drawn: list[Any]
    extra: gr.HTML | None
    picked: gr.Radio
    reveal: gr.Button
    answer: gr.Markdown


def create_learn_tab(shared: Shared) -> None:
    """Build the lessons one below the other, and let them follow their controls and the shared selection."""
    _markdown(words("learn/intro"))
    html_part("lessons", {"lessons": [{"anchor": one.anchor, "short": one.short} for one in LESSONS]}, padding=False)
    start, _ = fit(Selection(), shared.outline)
    controls: dict[str, Callable[[], gr.components.Component]] = {
        "rounding": lambda: gr.Slider(2, 8, START_BITS, step=1, label="Bits"),
        "outlier": lambda: gr.Slider(1, learning.LARGEST_OUTLIER, START_OUTLIER, step=0.5, label="Outlier"),
        "salience": lambda: gr.Dropdown(
            list(shared.outline.layers), value=start.layer, label="Layer", allow_custom_value=True
        ),
        "balance": lambda: gr.Slider(0, 100, 0, step=5, label="How far balanced, %"),
        "timesteps": lambda: gr.Slider(0, LAST_TIMESTEP, start.timestep, step=1, label="Timestep"),
        "pictures": lambda: gr.Radio([(NAMES[key], key) for key in WAYS], value="csb+ssc", label="Balancing"),
    }
    cards = {one.key: _card(number, one, controls[one.key]) for number, one in enumerate(LESSONS, 1)}
    _closing()
    _wire_numbers(cards)
    _wire_outlier(cards["outlier"])
    _wire_selection(shared, cards)
    _follow_selection(shared, cards)
    _wire_questions(shared, cards)


def _card(number: int, about: Lesson, make_control: Callable[[], gr.components.Component]) -> _Card:
    """One lesson: words, control and formula on one side, chart, reading and question on the other."""
    with gr.Column(elem_id=about.anchor, elem_classes=["card", "lesson"]) as place:
        gr.Markdown(f"### <span class='lesson-number'>{number}</span> {about.title}")
        with gr.Row(elem_classes="lesson-body"):
            with gr.Column(scale=5, min_width=280):
                _markdown(words(f"learn/{about.key}"), "lesson-words")
                control = make_control()
                more = _grid() if about.key == "rounding" else []
                formula = _markdown("", "formula")
            with gr.Column(scale=7, min_width=280):
                extra = _outlier() if about.key == "outlier" else None
                plot = _pictures() if about.key == "pictures" else chart(about.title, HEIGHTS[about.key])
                reading = _markdown(LOADING, "reading")
        picked, reveal, answer = _question(about)
    drawn: list[Any] = [plot, formula, reading]
    asked: dict[str, Any] = {"picked": picked, "reveal": reveal, "answer": answer}
    return _Card(place=place, control=control, more=more, drawn=drawn, extra=extra, **asked)


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
    return html_part("wipe", {"left": _SIDE, "right": _SIDE}, elem_id="learn-wipe")


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
        _markdown(words("learn/closing"))
        with gr.Row():
            for name in ("Start", "Compare", "Inspect"):
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
        controls: list[Any] = [card.control, *card.more]
        moved = [*_opened(), *(one.input for one in controls)]
        gr.on(moved, draw, controls, card.drawn, trigger_mode="always_last", queue=False, **QUIET)


def _wire_outlier(card: _Card) -> None:
    """Dragging the outlier moves the slider, and the slider the outlier."""
    assert card.extra is not None
    card.extra.select(
        handlers.drag_outlier, card.extra, [card.control, *card.drawn], queue=False, trigger_mode="always_last", **QUIET
    )
    card.control.input(  # type: ignore[attr-defined]
        None, [card.control, card.extra], card.extra, js="(size, part) => ({ ...part, size })", api_visibility="private"
    )


def _wire_selection(shared: Shared, cards: dict[str, _Card]) -> None:
    """Layer, timestep and balancing are the shared ones: the lessons' controls move them and stand as they do."""
    moves = {
        "salience": "(layer) => { ptq4dit.set({ layer }); return []; }",
        "timesteps": "(timestep) => { ptq4dit.set({ timestep }); return []; }",
        "pictures": "(way) => { ptq4dit.set({ csb: way !== 'none', ssc: way === 'csb+ssc' }); return []; }",
    }
    for key, move in moves.items():
        control: Any = cards[key].control
        control.input(None, control, None, js=move, api_visibility="private")
    chosen: Any = cards["salience"].control
    shared.model.change(offered, [shared.model, shared.layer], chosen, queue=False, **QUIET)
    for key, one in (("salience", shared.layer), ("timesteps", shared.timestep)):
        stands: dict[str, Any] = {"js": "(value) => value", "api_visibility": "private"}
        gr.on([*_opened(), one.change], None, one, cards[key].control, **stands)


def offered(model: str, layer: str) -> Any:
    """The layers of a model that was opened, for the lesson's menu."""
    with explained():
        return gr.update(choices=list(layers(model)), value=layer)


def _follow_selection(shared: Shared, cards: dict[str, _Card]) -> None:
    """The lessons that look at the model are drawn for what is selected."""
    amount: Any = cards["balance"].control
    pictured = ("model", "csb", "ssc", "strength", "weight_bits", "activation_bits", "class_id", "prompt", "seed")
    pictures = cards["pictures"]
    fields = ("model", "layer", "strength", "channel")
    timed = ("model", "layer", "strength", "timestep")
    with cards["salience"].place:
        follow(shared, fields, handlers.follow_salience, cards["salience"].drawn, instead=_undrawn)
    with cards["balance"].place:
        moved: dict[str, Any] = {"own": [amount], "triggers": [amount.input], "instead": _undrawn}
        follow(shared, fields, handlers.follow_balance, cards["balance"].drawn, **moved)
    with cards["timesteps"].place:
        follow(shared, timed, handlers.follow_timesteps, cards["timesteps"].drawn, instead=_undrawn)
    with pictures.place:
        outputs = [pictures.control, *pictures.drawn]
        follow(shared, pictured, handlers.follow_pictures, outputs, instead=_unpictured)


def _undrawn(message: str) -> list[Any]:
    """A lesson whose chart cannot be drawn: the reason in the place of what it would say."""
    return [None, "", message]


def _unpictured(message: str) -> list[Any]:
    """The same of the lesson that shows pictures, whose switch stays as it is."""
    return [gr.skip(), {"left": _SIDE, "right": _SIDE}, "", message]


def _wire_questions(shared: Shared, cards: dict[str, _Card]) -> None:
    """Each question's answer, with the numbers on show."""
    asked: dict[str, tuple[Callable[..., str], Sequence[gr.components.Component]]] = {
        "rounding": (answers.reveal_rounding, [cards["rounding"].control]),
        "outlier": (answers.reveal_outlier, []),
        "salience": (answers.reveal_salience, [shared.model, shared.strength]),
        "balance": (answers.reveal_balance, [shared.model, shared.layer, shared.strength]),
        "timesteps": (answers.reveal_timesteps, [shared.model, shared.layer, shared.strength]),
        "pictures": (answers.reveal_pictures, shared.inputs),
    }
    for key, (reveal, inputs) in asked.items():
        card = cards[key]
        card.reveal.click(reveal, [card.picked, *inputs], card.answer, **QUIET)
        card.picked.input(None, None, card.answer, js="() => ''", api_visibility="private")


def _opened() -> list[Any]:
    """The event that the tab was opened."""
    tab = Context.block
    return [tab.select] if isinstance(tab, gr.Tab) else []
