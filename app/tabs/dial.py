"""The salience dial as one curve: mean PSNR over its stored settings, a line for each way of balancing.

Whether balancing pays stands in a point's sign: closer to full precision than without balancing, further, or neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from app.balancing import NAMES, SWITCHES, TOKENS, WAYS, Way
from app.content.grades import sign
from app.services.stored import Choice, StoredResults

NOTHING: dict[str, Any] = {"title": "", "ticks": [], "settings": [], "lines": [], "points": [], "here": {}}
"""What stands where a model has no means over the dial."""
SAID = {
    "plain": "",
    "gains": ", closer to full precision than without balancing",
    "loses": ", further from full precision than without balancing",
    "same": ", no closer to full precision than without balancing",
}
PLAIN = {
    "gains": "; CSB and SSC pay here",
    "loses": "; CSB and SSC do not pay here",
    "same": "; CSB and SSC make no difference here",
}
"""What the point without balancing says of the one with all of it."""
LEFT, RIGHT, HIGH, LOW = 15.0, 85.0, 5.0, 93.0  # per cent of the plot between which the points lie
BESIDE = 8.0  # per cent of the plot's width between the three points at one setting, so that none hides another
STEPS = (1, 2, 5, 10, 20, 50)  # dB between two lines of the grid


def curves(results: StoredResults) -> dict[str, dict[str, Any]]:
    """By bits, or bits and ``/token``, the curve at them; none where fewer than two settings of the dial are stored."""
    if len(results.strengths) < 2:
        return {}
    names = [(bits, tokens) for bits in results.bits for tokens in ((False, True) if results.tokens else (False,))]
    return {place(bits, tokens): _curve(results, bits, tokens) for bits, tokens in names}


def place(bits: str, tokens: bool) -> str:
    """The name of a curve."""
    return bits + "/token" * tokens


def marked(curve: dict[str, Any] | None, choice: Choice) -> dict[str, Any]:
    """A curve with "you are here" at a choice; `NOTHING` where there is no curve."""
    if curve is None:
        return NOTHING
    at = f"{choice.strength}/{choice.variant}"
    points = [point | {"here": "true" if point["value"] == at else "false"} for point in curve["points"]]
    return curve | {"points": points, "here": next(point for point in points if point["value"] == at)}


def _curve(results: StoredResults, bits: str, tokens: bool) -> dict[str, Any]:
    """One curve: its title, grid and settings, the lines as paths in a square of 100 by 100, and the points."""
    means = {
        (strength, way): results.mean(_choice(bits, strength, way, tokens))
        for strength in results.strengths
        for way in WAYS
    }
    low, high, step = _grid([mean.psnr for mean in means.values()])
    at = _across(results.strengths)

    def down(psnr: float) -> float:
        return LOW - (LOW - HIGH) * (psnr - low) / (high - low or 1)

    def point(strength: int, way: Way) -> dict[str, Any]:
        plain, best = means[strength, "none"].psnr, means[strength, "csb+ssc"].psnr
        psnr = means[strength, way].psnr
        return _point(strength, way, psnr, plain, best) | _place(at[strength, way], down(psnr))

    pictures = next(iter(means.values())).pictures
    return {
        "title": f"Mean PSNR over the salience dial at {bits}{TOKENS[tokens]}, {pictures} pictures, simulated",
        "ticks": [{"y": f"{down(n):.2f}", "text": f"{n}"} for n in range(low, high + 1, step)],
        "settings": [{"x": f"{at[n, 'csb']:.2f}", "text": setting(n)} for n in results.strengths],
        "lines": [{"way": way.replace("+", "-"), "path": _path(at, means, way, down)} for way in WAYS],
        "points": [point(strength, way) for strength, way in means],
    }


def _grid(values: list[float]) -> tuple[int, int, int]:
    """The lowest and the highest line of the grid around values in dB, and what lies between two lines."""
    low, high = min(values), max(values)
    step = next((one for one in STEPS if (high - low) / one <= 4), STEPS[-1])
    return step * math.floor(low / step), step * math.ceil(high / step + 1e-9), step


def _point(strength: int, way: Way, psnr: float, plain: float, best: float) -> dict[str, str]:
    """What a point says, from its PSNR in dB, and those without balancing and with all of it at the same setting.

    `sign` is the point's own, `pays` whether balancing does where the point is: without balancing, whether it would.
    """
    pays = sign(best if way == "none" else psnr, plain)
    said = f"{NAMES[way]}, {setting(strength)}: {psnr:.1f} dB{PLAIN[pays] if way == 'none' else SAID[pays]}"
    return {
        "value": f"{strength}/{way}",
        "sign": "plain" if way == "none" else pays,
        "pays": pays,
        "said": said,
    }


def _place(x: float, y: float) -> dict[str, str]:
    """Where a point is, in per cent of the plot, and to which side of it its label fits."""
    return {"x": f"{x:.2f}", "y": f"{y:.2f}", "side": "at-left" if x < 34 else "at-right" if x > 66 else "between"}


def _across(strengths: tuple[int, ...]) -> dict[tuple[int, Way], float]:
    """Per cent of the plot's width at which each point stands: the dial's factors of two are equally far apart."""
    first, last = math.log2(strengths[0]), math.log2(strengths[-1])
    at = [LEFT + (RIGHT - LEFT) * (math.log2(n) - first) / (last - first) for n in strengths]
    beside = min([BESIDE, *((b - a) / 4 for a, b in pairwise(at))])
    return {(n, way): x + (i - 1) * beside for n, x in zip(strengths, at, strict=True) for i, way in enumerate(WAYS)}


def _path(
    at: dict[tuple[int, Way], float], means: dict[tuple[int, Way], Any], way: Way, down: Callable[[float], float]
) -> str:
    """One way's line through its points."""
    ends = [f"{at[key]:.2f} {down(mean.psnr):.2f}" for key, mean in means.items() if key[1] == way]
    return "M" + "L".join(ends)


def setting(strength: int) -> str:
    """A setting of the dial in short."""
    return "as trained" if strength == 1 else f"x {strength}"


def _choice(bits: str, strength: int, way: Way, tokens: bool) -> Choice:
    csb, ssc = SWITCHES[way]
    return Choice(bits=bits, strength=strength, csb=csb, ssc=ssc, tokens=tokens)
