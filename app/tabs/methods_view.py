"""What the Methods tab shows of the stored benchmark: cells in, values of its parts out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from app.balancing import NAMES
from app.figures.methods.factorial import factorial_figure
from app.figures.methods.ranking import Row, difference_figure, ranking_figure
from app.services.stored_benchmark import BASE, Benchmark, Cell, Setting, Spread, gains


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric of the benchmark: its axis title, how it is written in a table, which way is better."""

    title: str
    written: str
    better: str


MEASURES = {
    "psnr": Measure(title="PSNR, dB", written=".2f", better="higher"),
    "ssim": Measure(title="SSIM", written=".4f", better="higher"),
    "drift": Measure(title="drift of the latents", written=".3f", better="lower"),
    "frechet": Measure(title="Fréchet distance", written=".2f", better="lower"),
    "spatial_frechet": Measure(title="spatial Fréchet distance", written=".2f", better="lower"),
    "class_accuracy": Measure(title="class accuracy", written=".2f", better="higher"),
}
GROUPS = {
    "": "static",
    "+dynamic": "dynamic",
    "+reconstruction": "static, reconstructed",
    "+dynamic+reconstruction": "dynamic, reconstructed",
}


def title(stored: Benchmark, name: str) -> str:
    """What a person calls a method."""
    return stored.methods[name].title if name in stored.methods else name


def measures(stored: Benchmark) -> list[tuple[str, str]]:
    """Label and key of the metrics that were measured anywhere."""
    known = {metric for cells in stored.tables.values() for cell in cells.values() for metric in cell.metrics}
    return [(f"{m.title} ({m.better} is better)", key) for key, m in MEASURES.items() if key in known]


def ranking(stored: Benchmark, setting: Setting, measure: str) -> go.Figure:
    """Every method's mean and interval, best first."""
    cells = {name: cell for name, cell in stored.table(setting).items() if measure in cell.metrics}
    sign = -1 if MEASURES[measure].better == "higher" else 1
    names = sorted(cells, key=lambda name: sign * cells[name].metrics[measure].mean)
    rows = [_row(title(stored, name), cells[name].metrics[measure], name == BASE) for name in names]
    return ranking_figure(rows, f"{MEASURES[measure].title}, simulated")


def differences(stored: Benchmark, setting: Setting) -> go.Figure:
    """Every method's PSNR minus PTQ4DiT's, paired, best first."""
    found = gains(stored.table(setting), BASE)
    names = sorted(found, key=lambda name: -found[name].mean)
    rows = [_row(title(stored, name), found[name]) for name in names]
    return difference_figure(rows, "PSNR minus PTQ4DiT's, dB, simulated")


def _row(name: str, spread: Spread, chosen: bool = False) -> Row:
    return Row(name=name, value=spread.mean, low=spread.low, high=spread.high, chosen=chosen)


def reading(stored: Benchmark, setting: Setting) -> str:
    """Who is above, level with and below PTQ4DiT, by paired intervals of the PSNR; what is missing."""
    found = gains(stored.table(setting), BASE)
    above = [n for n, gain in found.items() if gain.low is not None and gain.low > 0]
    below = [n for n, gain in found.items() if gain.high is not None and gain.high < 0]
    level = [name for name in found if name not in above and name not in below]
    sentences = [
        f"**{verb}**: {', '.join(title(stored, name) for name in names)}."
        for verb, names in (("Closer to full precision", above), ("Not told apart", level), ("Further away", below))
        if names
    ]
    opening = f"At {setting.title}, against PTQ4DiT picture by picture. " if found else ""
    if missing := stored.missing(setting):
        sentences.append(f"Not measured here: {', '.join(missing)}.")
    return opening + " ".join(sentences)


def table(stored: Benchmark, setting: Setting) -> dict[str, Any]:
    """A row for each method: every metric, the time and memory it takes, what it adds at inference."""
    cells = stored.table(setting)
    shown = [key for key in MEASURES if any(key in cell.metrics for cell in cells.values())]
    columns = [f"Method at {setting.title}, simulated", *(MEASURES[key].title for key in shown)]
    return {
        "label": columns[0],
        "columns": [*columns, "processor seconds to quantize", "MB on disk", "added at inference"],
        "rows": [_table_row(stored, name, cell, shown) for name, cell in cells.items()],
    }


def _table_row(stored: Benchmark, name: str, cell: Cell, shown: list[str]) -> dict[str, Any]:
    about = stored.methods.get(name)
    seconds = "-" if cell.cpu_seconds is None else f"{cell.cpu_seconds:.1f}"
    size = "-" if cell.bytes is None else f"{cell.bytes / 1e6:.2f}"
    return {
        "title": title(stored, name),
        "detail": about.citation if about else "",
        "state": "chosen" if name == BASE else "other",
        "cells": [*(written(cell, key) for key in shown), seconds, size, about.inference if about else ""],
    }


def written(cell: Cell, measure: str) -> str:
    """A mean with half its interval, such as "29.25 ± 1.35"; a dash where it was not measured."""
    spread = cell.metrics.get(measure)
    if spread is None:
        return "-"
    text = format(spread.mean, MEASURES[measure].written)
    if spread.high is None or spread.high == spread.mean:
        return text
    return f"{text} ± {format(spread.high - spread.mean, MEASURES[measure].written)}"


def factorial(cells: Mapping[str, Cell], measure: str) -> go.Figure:
    """PTQ4DiT's parts beside each other, as far as they were measured."""
    groups = {
        group: {
            place: _row(place, cells[key + suffix].metrics[measure])
            for key, place in NAMES.items()
            if measure in getattr(cells.get(key + suffix), "metrics", {})
        }
        for suffix, group in GROUPS.items()
    }
    return factorial_figure({g: rows for g, rows in groups.items() if rows}, f"{MEASURES[measure].title}, simulated")


def factorial_table(setting: Setting, cells: Mapping[str, Cell], measure: str) -> dict[str, Any]:
    """The factorial as numbers: a row for each balancing, a column for each rounding and granularity."""
    label = f"PTQ4DiT's parts at {setting.title}, {MEASURES[measure].title}, simulated"
    rows = [
        {
            "title": place,
            "detail": "",
            "state": "other",
            "cells": [written(cells[key + s], measure) if key + s in cells else "-" for s in GROUPS],
        }
        for key, place in NAMES.items()
    ]
    return {"label": label, "columns": [label, *GROUPS.values()], "rows": rows}


def source(stored: Benchmark) -> str:
    """How the benchmark was made, in one line."""
    made, config = stored.made, stored.config
    pictures = len(config.get("seeds", ())) * int(config.get("pictures", 0))
    return (
        f"{pictures} pictures a method, {config.get('steps')} steps, guidance {config.get('guidance_scale', 0):g}, "
        f"{made.get('backend', 'simulated')} quantization. PSNR's intervals are over pictures, the others' over seeds. "
        f"Made by `{made.get('command')}`, commit {made.get('commit')}, {made.get('date')}, on {made.get('hardware')}."
    )
