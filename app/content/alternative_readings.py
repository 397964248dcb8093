"""What the lessons about other methods say of one layer: formula, reading, cost, in words chosen by sign."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = {
    "none": "one for all",
    "token": "per token",
    "weights": "W in groups",
    "both": "both in groups",
    "rotated": "rotated",
    "csb+ssc": "CSB + SSC",
}
"""Way -> its name beside a bar."""
MUCH = 0.05  # change of the error, relative to it, below which it is called about the same
NOTHING_ROUNDED = "Weights and activations stay in float: nothing is rounded. Choose fewer bits in the bar above."
NO_GROUPS = "No group size divides this layer's channels, so the lesson shows tokens only."
NOT_BALANCED = "This layer is not balanced: nothing in front of it could absorb the factors."


def named(errors: Mapping[str, float], plain: str) -> dict[str, float]:
    """The errors by the names that stand beside the bars; `plain`: what no change at all is called."""
    return {plain if way == "none" else NAMES[way]: value for way, value in errors.items()}


def effect(error: float, plain: float) -> str:
    """What a way does to the error that there is without it: less, more, about the same."""
    if plain <= 0:
        return "nothing to take away"
    change = error / plain - 1
    if abs(change) < MUCH:
        return "about the same as without"
    if error <= 0:
        return "nothing left"
    factor = plain / error if change < 0 else error / plain
    told = f"{factor:.2g}" if factor < 100 else f"{factor:.0f}"
    return f"{told} times {'less' if change < 0 else 'more'} than without"


def percent(fraction: float) -> str:
    """A fraction as a percentage with three significant digits."""
    return f"{100 * fraction:.3g}%"


def off(layer: str, bits: str, error: float) -> str:
    """How far a layer's output is off."""
    return f"At {bits} the output of {layer} is off by **{percent(error)}**"


def against_balancing(error: float, balanced: float | None) -> str:
    """The same layer with CSB and SSC, which add nothing at run time."""
    if balanced is None:
        return NOT_BALANCED
    change = error / balanced - 1 if balanced > 0 else 0.0
    verdict = "about the same" if abs(change) < MUCH else "more" if change < 0 else "less"
    return f"CSB + SSC leave **{percent(balanced)}**, {verdict}, and add nothing at run time."


def measured(every: int) -> str:
    """Says so where not all of a layer was measured."""
    return "" if every == 1 else f" Measured on one output channel in {every}."


def scales_formula(way: str, token: float, group: float | None, whole: float, bits: int) -> str:
    """The scale of the activation in the middle, in LaTeX; `bits` of 16 leave it in float."""
    if bits > 8:
        return ""
    most, range_, index = 2**bits - 1, whole, r"\text{all}"
    if way in ("token", "weights"):
        range_, index = token, r"\text{token}"
    elif way == "both" and group is not None:
        range_, index = group, r"\text{group}"
    return (
        rf"$$\begin{{aligned}}s_{{{index}}} &= (x_\text{{max}} - x_\text{{min}}) / (2^b - 1) \\[4pt] "
        rf"&= {range_:.3g} / {most} = \mathbf{{{range_ / most:.3g}}}\end{{aligned}}$$"
    )


def scales_reading(
    layer: str, bits: str, way: str, error: float, plain: float, whole: float, token: float, every: int
) -> str:
    """What the chosen sharing of scales does to the layer's error."""
    spans = f"One scale for all must span **{whole:.3g}**, the token in the middle only {token:.3g}."
    compared = "" if way == "none" else f", {effect(error, plain)}"
    return f"{off(layer, bits, error)}{compared} (simulated). {spans}{measured(every)}"


def scales_cost(way: str, inputs: int, outputs: int, size: int | None) -> str:
    """What the chosen sharing of scales adds at run time."""
    if way == "none" or size is None:
        size = size or inputs
    pieces = inputs // size
    token = f"a minimum and a maximum over {inputs} values for every token"
    weights = f"{outputs * pieces:,} weight scales instead of {outputs:,}, and every product summed in {pieces} pieces"
    told = {
        "none": "nothing: both scales are known before",
        "token": token,
        "weights": f"{token}; {weights}",
        "both": f"{pieces} minima and maxima for every token; {weights}",
    }
    return f"**Adds at run time**: {told[way]}."


def rotation_formula(before: float, after: float) -> str:
    """The rotation and the largest value before and after it, in LaTeX."""
    return (
        r"$$\begin{aligned}(XR)(R^\top W) &= XW, \quad R R^\top = I \\[4pt] "
        rf"\max |X| &= \mathbf{{{before:.3g}}} \\[4pt] \max |XR| &= \mathbf{{{after:.3g}}}\end{{aligned}}$$"
    )


def rotation_reading(layer: str, bits: str, way: str, error: float, plain: float, mixed: int, every: int) -> str:
    """What rotating does to the layer's error."""
    if way == "none":
        return f"{off(layer, bits, error)} as it is (simulated).{measured(every)}"
    how = f"rotated, {mixed} channels mixed with each other" if way == "rotated" else "balanced by CSB and SSC"
    return f"{off(layer, bits, error)} {how}: {effect(error, plain)} (simulated).{measured(every)}"


def rotation_cost(share: float) -> str:
    """What a rotation adds at run time."""
    return (
        f"**The rotation adds at run time**: a Hadamard transform of every token, **{percent(share)}** of the layer's "
        "own multiplications, in float."
    )


def peak(before: float, after: float) -> str:
    """What becomes of the largest value: shrinks, stays, grows."""
    change = after / before - 1 if before > 0 else 0.0
    return "same" if abs(change) < 2 * MUCH else "shrinks" if change < 0 else "grows"


def branch_formula(rank: int, share: float) -> str:
    """The branch and what it costs, in LaTeX."""
    return (
        r"$$\begin{aligned}W &= U_r V_r + R \\[4pt] XW &\approx (X U_r) V_r + Q(X)\, Q(R) \\[4pt] "
        r"\frac{r\,(d_\text{in} + d_\text{out})}{d_\text{in}\, d_\text{out}} &= "
        rf"\mathbf{{{100 * share:.3g}\%}} \quad (r = {rank})\end{{aligned}}$$"
    )


def branch_reading(
    layer: str, bits: str, rank: int, asked: int, error: float, plain: float, smoothed: bool, every: int
) -> str:
    """What a branch of that rank does to the layer's error."""
    smaller = "" if rank == asked else f" (the layer is too narrow for {asked})"
    with_ = "without a branch" if rank == 0 else f"with a branch of rank {rank}{smaller}"
    before = "its channels smoothed" if smoothed else "nothing smoothed, as no normalization stands in front"
    return f"{off(layer, bits, error)} {with_}, {before}: {effect(error, plain)} (simulated).{measured(every)}"


def branch_cost(rank: int, share: float) -> str:
    """What a branch adds at run time, and to the weights."""
    if rank == 0:
        return "**Adds at run time**: nothing, as long as there is no branch."
    return f"**Adds at run time**: a float product, and as many float weights: **{percent(share)}** of the layer's own."
