"""How cost grows, shown: tables for a README, and a figure whose slopes are the exponents."""

from __future__ import annotations

from typing import Any

import provenance  # noqa: F401  finds ptq4dit
from cost_laws import BASE, MEASURES, PARTS, ROWS, XL_WIDTH, sweep
from matplotlib.figure import Figure

from ptq4dit.storage.markdown import markdown_table

COLOURS = {"products": "#2A86C2", "attention": "#D55E00", "rest": "#9AA5B4", "ours": "#009E73", "float": "#4B5563"}


def tables(content: dict[str, Any]) -> dict[str, str]:
    """The tables by name: what was measured and the exponents; seconds of an image."""
    return {"growth": growth_table(content), "image cost": image_table(content)}


def growth_table(content: dict[str, Any]) -> str:
    """The first and last point of every sweep and the exponents between."""
    head = ["varied", "from, to", *MEASURES.values()]
    lines = []
    for size in content["fits"]["exponents"]:
        points = sweep(content["points"], size)
        first, last, powers = points[0], points[-1], content["fits"]["exponents"][size]
        cells = [f"{first[name]:.3g} to {last[name]:.3g}: {powers[name]:.2f}" for name in MEASURES]
        lines.append([size, f"{first[size]}, {last[size]}", *cells])
    return markdown_table(head, lines)


def image_table(content: dict[str, Any]) -> str:
    """Seconds of one image with guidance at two sizes and two numbers of steps."""
    head, lines = ["pixels", "steps", "torch fp32, s", "W8A8, s", "of it decoding, s"], []
    for row in content["images"]:
        seconds = [f"{row[name]:.1f}" for name in ("float_s", "ours_s", "decode_s")]
        lines.append([str(row["pixels"]), str(row["steps"]), *seconds])
    return markdown_table(head, lines)


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
