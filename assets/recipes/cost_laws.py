"""What follows from measured points: exponents, where attention overtakes the products, seconds of a whole image."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

ROWS, STEPS = 1, 50
"""Rows of the other sweeps; steps that what is done once is shared by."""
XL_BLOCKS, XL_WIDTH = 28, 1152
SIZES = ("tokens", "rows", "blocks", "width")
BASE = {"blocks": 1, "width": XL_WIDTH, "tokens": 256, "rows": ROWS}
PARTS = ("products", "attention", "rest")
MEASURES = {
    **{part: f"{part}, ms" for part in PARTS},
    "ours": "W8A8, ms",
    "float": "torch fp32, ms",
    "ours_mb": "W8A8, MB",
    "float_mb": "torch fp32, MB",
}
Point = dict[str, float]


def sweep(points: Sequence[Point], size: str) -> list[Point]:
    """The points that differ from the base in this size only, by it."""
    fixed = {name: value for name, value in BASE.items() if name != size}
    return sorted((one for one in points if fixed.items() <= one.items()), key=lambda one: one[size])


def exponent(points: Sequence[Point], size: str, name: str) -> float:
    """Slope of least squares of log(measure) over log(size)."""
    return line(points, size, name)[0]


def line(points: Sequence[Point], size: str, name: str) -> tuple[float, float]:
    """Slope and intercept of log(measure) over log(size)."""
    fit = statistics.linear_regression([math.log(p[size]) for p in points], [math.log(p[name]) for p in points])
    return fit.slope, fit.intercept


def crossing(points: Sequence[Point], size: str = "tokens") -> float:
    """Where attention takes as long as the products, by the lines through the last three points."""
    (a, b), (c, d) = (line(points[-3:], size, name) for name in ("products", "attention"))
    return math.exp((b - d) / (c - a))


def fits(points: Sequence[Point]) -> dict[str, Any]:
    """Exponents of what was swept; four blocks over the line through one and two; where attention overtakes."""
    swept = {size: each for size in SIZES if len(each := sweep(points, size)) > 1}
    found: dict[str, Any] = {"attention_overtakes_by_counting": 6 * XL_WIDTH}
    found["exponents"] = {
        size: {name: round(exponent(each, size, name), 2) for name in MEASURES} for size, each in swept.items()
    }
    if len(blocks := swept.get("blocks", [])) == 3:
        one, two, four = blocks
        line_ms = {name: one[name] + 3 * (two[name] - one[name]) for name in ("ours", "float")}
        found["four_blocks_over_line"] = {name: round(four[name] / ms, 2) for name, ms in line_ms.items()}
    if "tokens" in swept:
        found["attention_overtakes_at_tokens"] = round(crossing(swept["tokens"]))
    return found


def images(points: Sequence[Point], decode_s: dict[str, float]) -> list[dict[str, Any]]:
    """Seconds of one image with guidance of DiT-XL/2's size, put together from one block, two, and the decoding."""

    def whole(tokens: int, name: str) -> float:
        one, two = (
            next(p for p in points if p == p | BASE | {"tokens": tokens, "rows": 2, "blocks": blocks})
            for blocks in (1, 2)
        )
        return (one[name] + (XL_BLOCKS - 1) * (two[name] - one[name])) / 1e3

    rows = []
    for pixels in (256, 512):
        tokens, decoding = (pixels // 16) ** 2, decode_s[str(pixels)]
        for steps in (50, 20):
            sampling = {"float": steps * whole(tokens, "float"), "ours": steps * whole(tokens, "ours")}
            sampling["ours"] += whole(tokens, "once") * steps / STEPS
            rows.append(
                {"pixels": pixels, "steps": steps, "decode_s": round(decoding, 2)}
                | {f"{name}_s": round(seconds + decoding, 1) for name, seconds in sampling.items()}
            )
    return rows
