"""What Learn draws of the lessons about other methods, and answers to their predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.components.chart import shown
from app.components.messages import explained
from app.content import alternative_readings as say
from app.figures.learn.low_rank import low_rank_figure
from app.figures.learn.rotation import rotation_figure
from app.figures.learn.scales import scales_figure
from app.services import alternatives as other
from app.state import Selection
from app.tabs.learn_answers import verdict

WAYS: dict[str, Any] = {
    "scales": [
        ("all tokens share one", other.NONE),
        ("one for every token", "token"),
        ("that, and groups of weights", "weights"),
        ("groups of both", "both"),
    ],
    "rotation": [("as it is", other.NONE), ("rotated", other.ROTATED), ("CSB + SSC", other.BALANCED)],
    "branch": [(str(rank), rank) for rank in other.RANKS],
}
"""Lesson -> what its control offers."""
FIRST: dict[str, Any] = {"scales": other.NONE, "rotation": other.ROTATED, "branch": 16}
AS_IT_IS = "as it is"


def draw_scales(way: str, *values: Any) -> list[Any]:
    """Ranges over errors, formula and reading of the seventh lesson; values: those of the selection, here and below."""
    with explained():
        chosen = Selection.from_controls(*values)
        found = other.scales(*_where(chosen))
    if _in_float(chosen):
        return [None, "", say.NOTHING_ROUNDED]
    shown_way = way if way in found.errors else other.NONE if way == other.NONE else "token"
    middle = float(np.median(found.tokens))
    group = None if found.groups is None else float(np.median(found.groups))
    errors, plain = say.named(found.errors, say.NAMES["none"]), found.errors[other.NONE]
    figure = scales_figure(found.tokens, found.groups, found.whole, errors, say.NAMES[shown_way])
    error = found.errors[shown_way]
    told = [
        say.scales_reading(chosen.layer, _bits(chosen), shown_way, error, plain, found.whole, middle, found.every),
        say.scales_cost(shown_way, found.inputs, found.outputs, found.size),
        say.against_balancing(error, found.errors.get(other.BALANCED)),
        "" if shown_way == way else say.NO_GROUPS,
    ]
    formula = say.scales_formula(shown_way, middle, group, found.whole, chosen.activation_bits)
    return [shown(figure), formula, " ".join(told).strip()]


def draw_rotation(way: str, *values: Any) -> list[Any]:
    """Channels over errors, formula and reading of the eighth lesson."""
    with explained():
        chosen = Selection.from_controls(*values)
        found = other.rotation(*_where(chosen))
    if _in_float(chosen):
        return [None, "", say.NOTHING_ROUNDED]
    shown_way = way if way in found.errors else other.NONE
    errors, error = say.named(found.errors, AS_IT_IS), found.errors[shown_way]
    name = AS_IT_IS if shown_way == other.NONE else say.NAMES[shown_way]
    plain = found.errors[other.NONE]
    told = [
        say.rotation_reading(chosen.layer, _bits(chosen), shown_way, error, plain, found.mixed, found.every),
        say.rotation_cost(found.share),
        "" if shown_way == other.BALANCED else say.against_balancing(error, found.errors.get(other.BALANCED)),
        "" if shown_way == way else say.NOT_BALANCED,
    ]
    formula = say.rotation_formula(float(found.before.max()), float(found.after.max()))
    figure = rotation_figure(found.before, found.after, errors, name)
    return [shown(figure), formula, " ".join(dict.fromkeys(told)).strip()]


def draw_branch(rank: int, *values: Any) -> list[Any]:
    """Singular values over errors, formula and reading of the ninth lesson."""
    with explained():
        chosen = Selection.from_controls(*values)
        found = other.low_rank(*_where(chosen))
    if _in_float(chosen):
        return [None, "", say.NOTHING_ROUNDED]
    nearest = found.nearest(int(rank))
    error, share = found.errors[nearest], found.shares[nearest]
    references: dict[str, float] = {AS_IT_IS: found.plain} | (
        {} if found.balanced is None else {say.NAMES["csb+ssc"]: found.balanced}
    )
    figure = low_rank_figure(found.singular, found.errors, nearest, references)
    told = [
        say.branch_reading(
            chosen.layer, _bits(chosen), nearest, int(rank), error, found.plain, found.smoothed, found.every
        ),
        say.branch_cost(nearest, share),
        say.against_balancing(error, found.balanced),
    ]
    return [shown(figure), say.branch_formula(nearest, share), " ".join(told)]


def reveal_scales(picked: int | None, *values: Any) -> str:
    """The answer of the seventh lesson: the first way that beats balancing, or, where there is none, plain rounding."""
    with explained():
        errors = other.scales(*_where(Selection.from_controls(*values))).errors
    against = other.BALANCED if other.BALANCED in errors else other.NONE
    beaten = errors[against] * (1 - say.MUCH)
    groups = [errors[way] for way in ("weights", "both") if way in errors]
    right = 0 if errors["token"] < beaten else 1 if any(value < beaten for value in groups) else 2
    told = ", ".join(f"{say.NAMES[way]} {say.percent(errors[way])}" for way in errors if way != against)
    reference = "CSB + SSC leave" if against == other.BALANCED else f"{say.NOT_BALANCED} Rounded as it is it has"
    worse = " Balancing itself adds to the error here." if errors[against] > errors[other.NONE] * (1 + say.MUCH) else ""
    return verdict("scales", picked, f"{reference} {say.percent(errors[against])} of error; {told}.{worse}", right)


def reveal_rotation(picked: int | None, *values: Any) -> str:
    """The answer of the eighth lesson, from the layer's kept rows."""
    with explained():
        found = other.rotation(*_where(Selection.from_controls(*values)))
    before, after = float(found.before.max()), float(found.after.max())
    right = ("shrinks", "same", "grows").index(say.peak(before, after))
    because = {
        0: "The sum spreads what stood out over all channels.",
        1: "There is little that stands out, so there is little to spread.",
        2: "Nothing stands out here, and where signs agree the sum is larger than its parts.",
    }
    return verdict("rotation", picked, f"From {before:.3g} to {after:.3g}. {because[right]}", right)


def reveal_branch(picked: int | None, *values: Any) -> str:
    """The answer of the ninth lesson, from the layer's shape."""
    with explained():
        found = other.low_rank(*_where(Selection.from_controls(*values)))
    rank = found.nearest(16)
    share = found.shares[rank]
    right = 0 if share < 0.05 else 1 if share <= 0.15 else 2
    because = f"Here a branch of rank {rank} adds {say.percent(share)}; the wider the layer, the smaller its share."
    return verdict("branch", picked, because, right)


def _where(chosen: Selection) -> tuple[str, str, int, int, int]:
    return chosen.model, chosen.layer, chosen.strength, chosen.weight_bits, chosen.activation_bits


def _bits(chosen: Selection) -> str:
    return f"W{chosen.weight_bits}A{chosen.activation_bits}"


def _in_float(chosen: Selection) -> bool:
    return min(chosen.weight_bits, chosen.activation_bits) > 8
