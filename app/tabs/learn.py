"""Learn: nine ideas, each with one control, one chart, the reader's own numbers and a question to predict."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.context import Context

from app.balancing import NAMES, WAYS
from app.components.controls import Shared
from app.components.follower import follow
from app.components.messages import explained
from app.components.part import html_part, script
from app.content import words
from app.content.lessons import LESSONS
from app.services import learning
from app.services.fitting import fit
from app.services.models import layers
from app.state import LAST_TIMESTEP, Selection
from app.tabs import learn_alternatives as alternatives
from app.tabs import learn_answers as answers
from app.tabs import learn_handlers as handlers
from app.tabs.learn_card import NO_LADDER, SIDE, START_BITS, START_OUTLIER, Card, create_card, markdown
from app.tabs.story import create_story

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUIET: dict[str, Any] = {"show_progress": "hidden", **PRIVATE}
NEXT: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "See it break and mend: W8A8 with outliers",
        "Start",
        {"strength": 8, "weight_bits": 8, "activation_bits": 8, "csb": False},
    ),
    ("Tell pictures apart: ten rounds", "Methods", {}),
    ("Draw from a noise of your own", "Compare", {}),
    ("Look at every layer and channel", "Inspect", {}),
)
"""What to try after the lessons: text, tab, and what is selected there."""


def create_learn_tab(shared: Shared) -> None:
    """Build the lessons one below the other, and let them follow their controls and the shared selection."""
    markdown(words("learn/intro"))
    lessons = [{"key": one.key, "anchor": one.anchor, "short": one.short, "idea": one.idea} for one in LESSONS]
    html_part("lessons", {"lessons": lessons}, scripts=("store", "learned"), padding=False)
    _why(shared)
    with gr.Column(elem_classes="card"):
        create_story()
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
        "scales": lambda: _ways("scales", "What shares a scale"),
        "rotation": lambda: _ways("rotation", "The layer's channels"),
        "branch": lambda: _ways("branch", "Rank of the branch"),
    }
    cards = {one.key: create_card(number, one, controls[one.key]) for number, one in enumerate(LESSONS, 1)}
    _closing(lessons)
    _wire_numbers(shared, cards)
    _wire_outlier(cards["outlier"])
    _wire_selection(shared, cards)
    _follow_selection(shared, cards)
    _wire_questions(shared, cards)


def _why(shared: Shared) -> None:
    """Why anything is quantized, and where: words beside a drawn block."""
    with gr.Column(elem_classes="card", elem_id="learn-why"), gr.Row():
        with gr.Column(scale=6, min_width=280):
            markdown(words("learn/why"))
            measured = gr.Markdown(elem_classes="reading")
            follow(shared, ("model",), handlers.draw_why, measured)
        with gr.Column(scale=5, min_width=280):
            html_part("block", {}, scripts=("store",), apply_default_css=False, elem_id="learn-block")


def _ways(key: str, label: str) -> gr.Radio:
    """The control of a lesson about another method."""
    return gr.Radio(alternatives.WAYS[key], value=alternatives.FIRST[key], label=label)


def _closing(lessons: list[dict[str, str]]) -> None:
    """The last page: what was predicted, what to try next, and the words once more."""
    with gr.Column(elem_classes="card", elem_id="learn-finish"):
        markdown(words("learn/closing"))
        html_part("finish", {"lessons": lessons}, scripts=("learned",), apply_default_css=False)
        gr.Markdown("### What to try next")
        with gr.Row(elem_id="learn-next"):
            for text, tab, wanted in NEXT:
                go = gr.Button(text, size="sm", min_width=220)
                moved = f"ptq4dit.set({json.dumps(wanted)}); " if wanted else ""
                go.click(None, js=f"() => {{ {moved}return ({script('go_to_tab')})('{tab}'); }}", **PRIVATE)
        markdown(words("learn/further"))
    with gr.Accordion("Glossary", open=False, elem_id="learn-glossary"):
        markdown(words("learn/glossary"))


def _wire_numbers(shared: Shared, cards: dict[str, Card]) -> None:
    """The lessons that need no model: plain arithmetic on what their own controls say."""
    drawers: dict[str, Callable[..., list[Any]]] = {
        "rounding": handlers.follow_rounding,
        "outlier": handlers.follow_outlier,
    }
    for key, draw in drawers.items():
        card = cards[key]
        controls: list[Any] = [card.control, *card.more]
        with card.place:
            follow(shared, (), draw, card.drawn, own=controls, triggers=[one.input for one in controls])


def _wire_outlier(card: Card) -> None:
    """Dragging the outlier moves the slider, and the slider the outlier."""
    assert card.extra is not None
    card.extra.select(
        handlers.drag_outlier, card.extra, [card.control, *card.drawn], queue=False, trigger_mode="always_last", **QUIET
    )
    card.control.input(  # type: ignore[attr-defined]
        None, [card.control, card.extra], card.extra, js="(size, part) => ({ ...part, size })", api_visibility="private"
    )


def _wire_selection(shared: Shared, cards: dict[str, Card]) -> None:
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


def _follow_selection(shared: Shared, cards: dict[str, Card]) -> None:
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
    rounded = ("model", "layer", "strength", "weight_bits", "activation_bits")
    drawers: dict[str, Callable[..., list[Any]]] = {
        "scales": alternatives.draw_scales,
        "rotation": alternatives.draw_rotation,
        "branch": alternatives.draw_branch,
    }
    for key, draw in drawers.items():
        control: Any = cards[key].control
        with cards[key].place:
            moved = {"own": [control], "triggers": [control.input], "instead": _undrawn}
            follow(shared, rounded, draw, cards[key].drawn, **moved)
    with pictures.place:
        outputs = [pictures.control, *pictures.drawn, pictures.extra]
        follow(shared, pictured, handlers.follow_pictures, outputs, instead=_unpictured)


def _undrawn(message: str) -> list[Any]:
    """A lesson whose chart cannot be drawn: the reason in the place of what it would say."""
    return [None, "", message]


def _unpictured(message: str) -> list[Any]:
    """The same of the lesson that shows pictures, whose switch stays as it is."""
    return [gr.skip(), {"left": SIDE, "right": SIDE}, "", message, NO_LADDER]


def _wire_questions(shared: Shared, cards: dict[str, Card]) -> None:
    """Each question's answer, with the numbers on show."""
    asked: dict[str, tuple[Callable[..., str], Sequence[gr.components.Component]]] = {
        "rounding": (answers.reveal_rounding, [cards["rounding"].control]),
        "outlier": (answers.reveal_outlier, []),
        "salience": (answers.reveal_salience, [shared.model, shared.strength]),
        "balance": (answers.reveal_balance, [shared.model, shared.layer, shared.strength]),
        "timesteps": (answers.reveal_timesteps, [shared.model, shared.layer, shared.strength]),
        "pictures": (answers.reveal_pictures, shared.inputs),
        "scales": (alternatives.reveal_scales, shared.inputs),
        "rotation": (alternatives.reveal_rotation, shared.inputs),
        "branch": (alternatives.reveal_branch, shared.inputs),
    }
    for key, card in cards.items():
        reveal, inputs = asked[key]  # a lesson without an answer fails here, at the start
        count: Any = {"js": f"(text) => {{ window.ptq4ditLearned?.answered('{key}', text); return []; }}", **PRIVATE}
        card.reveal.click(reveal, [card.picked, *inputs], card.answer, **QUIET).then(None, card.answer, None, **count)
        card.picked.input(None, None, card.answer, js="() => ''", api_visibility="private")


def _opened() -> list[Any]:
    """The event that the tab was opened."""
    tab = Context.block
    return [tab.select] if isinstance(tab, gr.Tab) else []
