"""Measure how cost grows: time and memory of a DiT against tokens, rows, blocks and width, part by part, on this CPU.

    python assets/recipes/cost_growth.py

Random weights of DiT-XL/2's kind with few blocks, one of the four sizes varied at a time. Each point is a measurement
of `python -m ptq4dit speed`: torch in float32 and W8A8 on integers in turn, the integer pass part by part by OpenVINO's
own account, memory in a process of its own; seconds are the processor's, of one thread. Fitted are exponents: time is
proportional to size ** exponent. A run that was stopped goes on where it was. Seconds of a whole image are put together
from what was measured: one pass of 28 blocks from one block and two, times the steps, and the autoencoder's decoding.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from provenance import ROOT, made_by, read_json, write_json

sys.path.insert(0, str(ROOT))

from matplotlib.figure import Figure

OUT = ROOT / "assets" / "demo" / "results" / "cost_growth.json"
FIGURE = ROOT / "assets" / "screenshots" / "cost_growth.webp"
COMMAND = "python assets/recipes/cost_growth.py"
FLOAT, OURS = "torch-fp32", "ours-w8a8"
ROWS, ALL_ROWS, STEPS = 1, (1, 2, 4, 8), 50
"""An image with guidance takes two rows; the sweep of rows is measured at the first point."""
XL_BLOCKS, XL_WIDTH, HEAD = 28, 1152, 72
POINTS = (
    *((1, 16, 32), (2, 16, 32), (1, 16, 64), (2, 16, 64), (1, 8, 32), (4, 16, 32), (1, 24, 32)),
    *((1, 16, 128), (1, 16, 96), (1, 16, 48), (1, 4, 32)),
)
"""Blocks, heads and side of the latents: tokens are the square of half of it. What tells most comes first."""
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
COLOURS = {"products": "#2A86C2", "attention": "#D55E00", "rest": "#9AA5B4", "ours": "#009E73", "float": "#4B5563"}
NO_PEAKS = dict.fromkeys(("fp32_macs", "bf16_macs", "int8_macs", "bytes_per_s"), 1.0)
"""Floors are not looked at."""
Point = dict[str, float]


def measure(blocks: int, heads: int, side: int, rounds: int) -> list[Point]:
    """One or more points: times in turn, parts, and memory of every number of rows in a process of its own."""
    from ptq4dit.speed import run
    from ptq4dit.speed.config import XL, SpeedConfig
    from ptq4dit.speed.contestants.registry import ALL
    from ptq4dit.speed.memory_probe import resident_in_a_child

    image = blocks < 3 and heads == 16 and side in (32, 64)
    rows = ALL_ROWS if (blocks, heads, side) == POINTS[0] else (1, 2) if image else (ROWS,)
    with tempfile.TemporaryDirectory(prefix="ptq4dit-growth-") as folder:
        config = SpeedConfig(
            source=XL,
            blocks=blocks,
            heads=heads,
            side=side,
            batches=rows,
            rounds=rounds,
            only=(OURS,),
            steps=STEPS,
            threads=1,
            processor_time=True,
            profile=True,
            together=True,
            keep=folder,
        )
        content = run.measure_speed(config, {}, machine=NO_PEAKS)
        found = content["contestants"]
        memory = {key: {rows[0]: found[key]["fresh_process"]} for key in (FLOAT, OURS)}
        for key, each in memory.items():
            built = Path(folder) / "built" / ALL[key].built
            each |= {row: resident_in_a_child(key, Path(folder), built, row, 1) for row in rows[1:]}
            if failed := [one["error"] for one in each.values() if "error" in one]:
                raise SystemExit(f"{key}: {failed[0]}")
    about = {name: content["model"][name] for name in ("blocks", "width", "tokens")}
    return [
        about | {"rows": row} | point({key: found[key] for key in memory}, memory, row) | once(found[OURS])
        for row in sorted(rows)
    ]


def point(found: dict[str, Any], memory: dict[str, Any], rows: int) -> Point:
    """Milliseconds and MB of one point; the pass is shared out as the profiled one was."""
    numbers = {key: result["batches"][str(rows)] for key, result in found.items()}
    return parts(numbers[OURS]["profile"], numbers[OURS]["ms"]) | {
        "ours": numbers[OURS]["ms"],
        "float": numbers[FLOAT]["ms"],
        "ours_mb": memory[OURS][rows]["own_mb"],
        "float_mb": memory[FLOAT][rows]["own_mb"],
        "ours_peak_mb": memory[OURS][rows]["peak_mb"],
        "float_peak_mb": memory[FLOAT][rows]["peak_mb"],
    }


def once(result: dict[str, Any]) -> Point:
    """Milliseconds of what a run of `STEPS` steps needs once."""
    return {"once": result["once_ms"]}


def parts(profile: dict[str, Any], ms_of_pass: float) -> Point:
    """Milliseconds of the products of weights, of the attention, and of all that is neither, shared out as profiled."""
    kinds = {kind: numbers["ms"] for kind, numbers in profile["kinds"].items()}
    products = sum(ms for kind, ms in kinds.items() if kind.startswith("product ") or kind == "other products")
    attention = kinds.get("attention", 0.0)
    whole = sum(kinds.values())
    shares = products / whole, attention / whole, 1 - (products + attention) / whole
    return {name: round(share * ms_of_pass, 3) for name, share in zip(PARTS, shares, strict=True)}


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


def decoding() -> dict[str, float]:
    """Seconds of decoding one image of 256 and 512 pixels by an autoencoder of the original's size, in float32."""
    import torch

    from ptq4dit.speed.images import sd_autoencoder

    torch.set_num_threads(1)
    vae, seconds = sd_autoencoder(), {}
    with torch.no_grad():
        for pixels in (256, 512):
            given, each = torch.randn(1, 4, pixels // 8, pixels // 8), []
            for _ in range(3):
                begun = time.process_time()
                vae.decode(given)
                each.append(time.process_time() - begun)
            seconds[str(pixels)] = round(statistics.median(each), 3)
    return seconds


def run(rounds: int, again: bool) -> None:
    """All points that are not there yet; the file is written after each."""
    content: dict[str, Any] = {} if again or not OUT.is_file() else read_json(OUT)
    made = made_by(COMMAND) | {"weights": "random, seed 0", "rounds": rounds, "backend": "integer"}
    made |= {"seconds": "of the processor, one thread"}
    made["hardware"]["threads"] = 1
    content = {"format": "ptq4dit-cost-growth-1", "made": made} | content
    points = content.setdefault("points", [])
    for blocks, heads, side in POINTS:
        size = {"blocks": blocks, "width": heads * HEAD, "tokens": (side // 2) ** 2}
        if any(size.items() <= one.items() for one in points):
            continue
        begun = time.monotonic()
        points += measure(blocks, heads, side, 2 if side > 64 else rounds)
        print(size, f"{time.monotonic() - begun:.0f} s", points[-1], flush=True)
        write_json(OUT, content)
    if "decode_s" not in content:
        content["decode_s"] = decoding()
    content |= {"fits": fits(points), "images": images(points, content["decode_s"])}
    write_json(OUT, content)
    figure(content).savefig(FIGURE, pil_kwargs={"quality": 85, "method": 6})
    print("\n\n".join(tables(content).values()))


def tables(content: dict[str, Any]) -> dict[str, str]:
    """The tables by name: what was measured and the exponents; seconds of an image."""
    return {"growth": growth_table(content), "image cost": image_table(content)}


def growth_table(content: dict[str, Any]) -> str:
    """The first and last point of every sweep and the exponents between."""
    head = ["varied", "from, to", *MEASURES.values()]
    lines = [head, ["---"] * len(head)]
    for size in content["fits"]["exponents"]:
        points = sweep(content["points"], size)
        first, last, powers = points[0], points[-1], content["fits"]["exponents"][size]
        cells = [f"{first[name]:.3g} to {last[name]:.3g}: {powers[name]:.2f}" for name in MEASURES]
        lines.append([size, f"{first[size]}, {last[size]}", *cells])
    return _markdown(lines)


def image_table(content: dict[str, Any]) -> str:
    """Seconds of one image with guidance at two sizes and two numbers of steps."""
    lines = [["pixels", "steps", "torch fp32, s", "W8A8, s", "of it decoding, s"], ["---"] * 5]
    for row in content["images"]:
        seconds = [f"{row[name]:.1f}" for name in ("float_s", "ours_s", "decode_s")]
        lines.append([str(row["pixels"]), str(row["steps"]), *seconds])
    return _markdown(lines)


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def figure(content: dict[str, Any]) -> Figure:
    """Both axes logarithmic, so that a slope is an exponent: time above, memory below, one panel for each size."""
    text = "#4B5563"
    result = Figure(figsize=(11, 5.2), dpi=110, layout="constrained")
    powers = content["fits"]["exponents"]
    panels = result.subplots(2, len(powers), sharex="col", sharey="row", squeeze=False)
    for column, size in enumerate(powers):
        points = sweep(content["points"], size)
        at = [one[size] for one in points]
        for row, names in enumerate(((*PARTS, "ours", "float"), ("ours_mb", "float_mb"))):
            panel = panels[row][column]
            for name in names:
                kind = name.removesuffix("_mb")
                label = f"{MEASURES[name].split(',')[0]} {powers[size][name]:.2f}"
                style = "--" if kind == "float" else "-"
                panel.plot(
                    at, [one[name] for one in points], f"o{style}", color=COLOURS[kind], ms=3, lw=1.3, label=label
                )
            panel.set(xscale="log", yscale="log")
            panel.set_xticks(at, [str(value) for value in at])
            panel.minorticks_off()
            panel.legend(fontsize=6.5, frameon=False, labelcolor=text)
            panel.grid(color="#E5E7EB", lw=0.6)
            panel.tick_params(labelsize=8, colors=text, length=0)
            for spine in panel.spines.values():
                spine.set_visible(False)
        panels[1][column].set_xlabel(size, fontsize=9, color=text)
    panels[0][0].set_ylabel("processor ms of one pass", fontsize=9, color=text)
    panels[1][0].set_ylabel("resident MB", fontsize=9, color=text)
    title = f"From {BASE['blocks']} block, {XL_WIDTH} wide, {BASE['tokens']} tokens, {ROWS} row; numbers: exponents"
    result.suptitle(title, fontsize=10, color=text)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    args = parser.parse_args()
    run(args.rounds, args.again)
