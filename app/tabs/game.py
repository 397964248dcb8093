"""Which is closer to the original? Ten rounds of two stored pictures, from plain to hard; kept in the session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random, SystemRandom
from typing import Any

import gradio as gr

from app.balancing import NAMES
from app.components.controls import Shared
from app.components.follower import follow
from app.components.messages import explained, in_words
from app.components.part import html_part
from app.content.grades import graded
from app.figures.picture import data_uri
from app.services.stored import Choice, Example, Picture, StoredResults, load_results
from app.state import Selection, within

QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
QUESTION = "Which is closer to the original?"
ROUNDS = 10
CLOSEST, FURTHEST = 1.5, 15.0  # dB between the two pictures of a round
NOTHING: dict[str, Any] = {
    "question": QUESTION,
    "pictures": [],
    "original": {},
    "verdict": "",
    "score": "",
    "round": "",
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One round: an example, and two stored choices as they stand, left and right."""

    example: int
    choices: tuple[Choice, Choice]


@dataclass(frozen=True, kw_only=True)
class Game:
    """One game: its seed gives its rounds; answers: whether each answered one was right; picked: in this round."""

    model: str
    seed: int
    answers: tuple[bool, ...] = ()
    picked: int | None = None

    @property
    def round(self) -> int:
        """The number of the round on show, from 0."""
        return len(self.answers) - (self.picked is not None)


def create_game(shared: Shared) -> None:
    """Build the card; it is dealt when its tab is opened, and anew for another model."""
    with gr.Column(elem_classes="card", elem_id="game"):
        gr.Markdown(
            f"### {QUESTION}\nTwo quantized models (simulated) drew the same picture, from the same noise as the "
            "original in full precision. Choose the closer one: ten rounds, easy ones first."
        )
        game = html_part("game", NOTHING, elem_id="game-part")
        another = gr.Button("Next", size="sm", elem_id="game-next", interactive=False, min_width=160)
        state = gr.State(None)
        follow(shared, ("model",), reopened, [state, game, another])
    game.select(answer, state, [state, game, another], **QUIET)
    another.click(next_round, state, [state, game, another], **QUIET)


def reopened(*values: Any) -> list[Any]:
    """A new game about a selection's model, whose fields are the values; a message where it has no pictures."""
    model = Selection.from_controls(*values).model
    try:
        game = begin(model, SystemRandom().randrange(2**31))
        return [game, *_shown(game)]
    except ValueError as error:
        return [None, NOTHING | {"verdict": in_words(error)}, gr.update(interactive=False)]


def begin(model: str, seed: int) -> Game:
    """A game of that seed. Raises ValueError where no two stored pictures of the model differ enough."""
    if not rounds(load_results(model), seed):
        raise ValueError(f"No two pictures stored of {model} differ enough to ask which is closer.")
    return Game(model=model, seed=seed)


def rounds(results: StoredResults, seed: int) -> list[Pair]:
    """The rounds of a seed: shuffled, every example in turn, at most `ROUNDS`, those that differ most first."""
    random = Random(seed)
    by_example = [list(_pairs(index, example)) for index, example in enumerate(results.examples)]
    random.shuffle(by_example)
    for pairs in by_example:
        random.shuffle(pairs)
    dealt: list[Pair] = []
    while len(dealt) < ROUNDS and any(by_example):
        dealt += [_turned(pairs.pop(), random) for pairs in by_example if pairs]
    return sorted(dealt[:ROUNDS], key=lambda pair: -abs(_gap(results, pair)))


def _pairs(index: int, example: Example) -> Iterator[Pair]:
    """Every two stored pictures of an example that are neither alike nor worlds apart."""
    known = [(_choice(key), picture.psnr) for key, picture in example.quantized.items() if picture.psnr is not None]
    for (one, near), (other, far) in combinations(known, 2):
        if CLOSEST <= abs(near - far) <= FURTHEST:
            yield Pair(example=index, choices=(one, other))


def _turned(pair: Pair, random: Random) -> Pair:
    """The pair as it is or the other way round."""
    left, right = pair.choices
    return pair if random.random() < 0.5 else replace(pair, choices=(right, left))


def _choice(key: str) -> Choice:
    """The choice that a stored key stands for."""
    bits, strength, way = key.split("/")
    return Choice(bits=bits, strength=int(strength.removeprefix("x")), csb=way != "none", ssc=way == "csb+ssc")


def _gap(results: StoredResults, pair: Pair) -> float:
    """How many dB the left picture is closer than the right one."""
    left, right = (results.picture(pair.example, choice).psnr or 0.0 for choice in pair.choices)
    return left - right


def answer(event: gr.EventData, state: Game | None) -> list[Any]:
    """A picture was chosen: the game with its answer, and what is shown of it; a second answer changes nothing."""
    if state is None:
        return [gr.skip()] * 3
    if state.picked is None:
        results = load_results(state.model)
        with explained():
            picked = within("index", _index(event), 0, 1)
        closer = 0 if _gap(results, rounds(results, state.seed)[state.round]) > 0 else 1
        state = replace(state, picked=picked, answers=(*state.answers, picked == closer))
    return [state, *_shown(state)]


def _index(event: gr.EventData) -> Any:
    """What the script says of the picture that was chosen; None where it says nothing."""
    try:
        return event.index
    except (AttributeError, TypeError):
        return None


def next_round(state: Game | None) -> list[Any]:
    """The following round once this one is answered; after the last one a new game."""
    if state is None or state.picked is None:
        return [gr.skip()] * 3
    if len(state.answers) < len(rounds(load_results(state.model), state.seed)):
        following = replace(state, picked=None)
    else:
        following = begin(state.model, SystemRandom().randrange(2**31))
    return [following, *_shown(following)]


def _shown(state: Game) -> list[Any]:
    """The part's value and the button."""
    last = len(state.answers) == len(rounds(load_results(state.model), state.seed))
    label = "Play again" if last and state.picked is not None else "Next pair"
    return [show(state), gr.update(value=label, interactive=state.picked is not None)]


def show(state: Game) -> dict[str, Any]:
    """The original and two pictures, and once one is chosen, which was which."""
    results = load_results(state.model)
    dealt = rounds(results, state.seed)
    pair = dealt[state.round]
    example, gap = results.example(pair.example), _gap(results, pair)
    pictures = [results.picture(pair.example, choice) for choice in pair.choices]
    closer = 0 if gap > 0 else 1
    return {
        "question": QUESTION,
        "original": {"src": data_uri(example.full_precision.pixels()), "alt": f"{example.class_name}, full precision"},
        "pictures": [_picture(state, pair, pictures[i], example, i, i == closer) for i in (0, 1)],
        "verdict": verdict(state, abs(gap)),
        "score": score(state, len(dealt)),
        "round": f"Round {state.round + 1} of {len(dealt)}",
    }


def _picture(state: Game, pair: Pair, picture: Picture, example: Example, index: int, closer: bool) -> dict[str, Any]:
    """One of the two; nothing tells which it is before the answer."""
    letter, answered = "AB"[index], state.picked is not None
    told = f"{letter}: {graded(picture.psnr or 0.0)}. {describe(pair.choices[index])}"
    chosen = ", your choice" if state.picked == index else ""
    return {
        "index": index,
        "src": data_uri(picture.pixels()),
        "alt": f"{example.class_name}, picture {letter}",
        "label": told if answered else f"Picture {letter} is closer",
        "caption": f"{told}{chosen}" if answered else letter,
        "state": ("closer" if closer else "further") if answered else "open",
        "shut": answered,
    }


def verdict(state: Game, gap: float) -> str:
    """Right or not, and by how much."""
    if state.picked is None:
        return ""
    opening = "✓ Right" if state.answers[-1] else "✗ No, it was the other one"
    return f"{opening}: {gap:.1f} dB closer."


def score(state: Game, of: int) -> str:
    """How it stands; after the last round what a blind guess would have had."""
    if not state.answers:
        return "No answer yet"
    told = f"{sum(state.answers)} of {len(state.answers)} right"
    return told if len(state.answers) < of else f"{told}. Tossing a coin gets {of / 2:g}."


def describe(choice: Choice) -> str:
    """The quantized picture's model in words."""
    dial = "" if choice.strength == 1 else f", outliers x {choice.strength}"
    return f"{choice.bits}, {NAMES[choice.variant]}{dial}, simulated"
