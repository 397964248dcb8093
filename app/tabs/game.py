"""Which one is quantized? Two stored pictures from the same noise; the score is kept in the session."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import gradio as gr

from app.components.controls import Shared
from app.components.follower import follow
from app.components.messages import explained
from app.components.part import html_part
from app.figures.picture import data_uri
from app.services.stored import Choice, load_results
from app.state import Selection, within
from app.tabs.start_view import NAMES

QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
QUESTION = "Which one is quantized?"


@dataclass(frozen=True, kw_only=True)
class Round:
    """One question and the score before it: which example, which stored choice, on which side the quantized one is.

    `picked` is None until it is answered.
    """

    model: str
    seed: int
    example: int
    choice: Choice
    side: int
    picked: int | None = None
    right: int = 0
    asked: int = 0


def create_game(shared: Shared) -> None:
    """Build the card; another model brings its own pictures and a new score."""
    first, value = opened(shared.outline.name)
    with gr.Column(elem_classes="card", elem_id="game"):
        gr.Markdown(
            f"### {QUESTION}\nOne picture is drawn in full precision, the other by a model in fewer bits (simulated), "
            "from the same noise. Choose the one that you hold for quantized."
        )
        game = html_part("game", value, elem_id="game-part")
        another = gr.Button("Another pair", size="sm", elem_id="game-next", scale=0, min_width=160)
        state = gr.State(first)
        follow(shared, ("model",), reopened, [state, game])
    game.select(answer, state, [state, game], **QUIET)
    another.click(next_round, state, [state, game], **QUIET)


def opened(model: str) -> tuple[Round | None, dict[str, Any]]:
    """The first question about a model and what is shown of it; none where no pictures are stored of it."""
    try:
        first = deal(model, 0)
        return first, show(first)
    except ValueError as error:
        return None, {"question": QUESTION, "pictures": [], "verdict": str(error), "score": ""}


def reopened(*values: Any) -> list[Any]:
    """The same for a selection, whose fields are the values."""
    return list(opened(Selection.from_controls(*values).model))


def deal(model: str, seed: int, right: int = 0, asked: int = 0) -> Round:
    """The question of a seed: an example, bits, dial, balancing and side, drawn evenly."""
    results, random = load_results(model), Random(seed)
    bits, strength = random.choice(results.bits), random.choice(results.strengths)
    csb = random.random() < 0.5
    choice = Choice(bits=bits, strength=strength, csb=csb, ssc=csb)
    example, side = random.randrange(len(results.examples)), random.randrange(2)
    return Round(model=model, seed=seed, example=example, choice=choice, side=side, right=right, asked=asked)


def answer(event: gr.EventData, state: Round | None) -> list[Any]:
    """A picture was chosen: the round with its answer, and what is shown of it; a second answer changes nothing."""
    if state is None:
        return [gr.skip(), gr.skip()]
    if state.picked is None:
        with explained():
            picked = within("index", _index(event), 0, 1)
        won = picked == state.side
        state = replace(state, picked=picked, right=state.right + won, asked=state.asked + 1)
    return [state, show(state)]


def _index(event: gr.EventData) -> Any:
    """What the script says of the picture that was chosen; None where it says nothing."""
    try:
        return event.index
    except (AttributeError, TypeError):
        return None


def next_round(state: Round | None) -> list[Any]:
    """Another question; an unanswered one does not count."""
    if state is None:
        return [gr.skip(), gr.skip()]
    following = deal(state.model, state.seed + 1, state.right, state.asked)
    return [following, show(following)]


def show(state: Round) -> dict[str, Any]:
    """The two pictures, and once one is chosen, which was which."""
    results = load_results(state.model)
    example, quantized = results.example(state.example), results.picture(state.example, state.choice)
    answered = state.picked is not None
    pictures = []
    for index in (0, 1):
        is_quantized = index == state.side
        picture = quantized if is_quantized else example.full_precision
        letter, name = "AB"[index], describe(state.choice) if is_quantized else "full precision"
        pictures.append(
            {
                "index": index,
                "src": data_uri(picture.pixels()),
                "alt": f"{example.class_name}, picture {letter}" + (f", {name}" if answered else ""),
                "label": f"Picture {letter}: {name}" if answered else f"Picture {letter} is quantized",
                "caption": f"{letter}: {name}" if answered else letter,
                "state": ("quantized" if is_quantized else "exact") if answered else "open",
                "shut": answered,
            }
        )
    score = f"{state.right} of {state.asked} right" if state.asked else "No answer yet"
    return {"question": QUESTION, "pictures": pictures, "verdict": verdict(state, quantized.psnr), "score": score}


def verdict(state: Round, psnr: float | None) -> str:
    """Right or not, and how far the two pictures are apart."""
    if state.picked is None:
        return ""
    opening = "Right." if state.picked == state.side else "No, it was the other one."
    return f"{opening} {describe(state.choice)}" + ("" if psnr is None else f", {psnr:.1f} dB from full precision.")


def describe(choice: Choice) -> str:
    """The quantized picture's model in words."""
    dial = "" if choice.strength == 1 else f", salience x {choice.strength}"
    return f"{choice.bits}, simulated, {NAMES[choice.variant]}{dial}"
