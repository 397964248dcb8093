"""What the Data & API tab hands out: a chart, its data, its picture; named functions that need no server."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gradio.components.plot import PlotData

from app.balancing import TOKENS
from app.components.chart import shown
from app.components.messages import checked_by, explained
from app.figures.export.table import chart_rows
from app.services.loading import command
from app.services.shelf import entry
from app.services.sources import sources
from app.services.stored_feel import load_feel
from app.state import Selection
from app.tabs.data_charts import CHARTS, Chart, chart
from app.tabs.inspect_api import named

if TYPE_CHECKING:
    from app.figures.export.picture import Format

COLUMNS = ["File", "of", "written by", "commit", "date", "hardware", "numbers are", "seen in"]


def titles() -> list[tuple[str, str]]:
    """Every chart, as a choice."""
    return [(f"{item.tab}: {item.title}", key) for key, item in CHARTS.items()]


def preview(key: str, *values: Any) -> list[Any]:
    """The chart for the selection, and where its numbers come from."""
    with explained():
        item, selection = chart(key), Selection.from_controls(*values)
        entry(selection.model)
        drawn = item.draw(selection)
    figure = PlotData(type="plotly", plot=drawn) if isinstance(drawn, str) else shown(drawn)
    return [figure, provenance(item)]


def provenance(item: Chart) -> str:
    """Where a chart's numbers come from, in one line."""
    rounding = "No quantization is involved." if item.backend == "none" else f"Quantization: **{item.backend}**."
    return f"Source: {item.source}. {rounding}"


def offer_csv(key: str, *values: Any) -> Iterator[str]:
    """The chart's data as a CSV file, a comment on top saying where it comes from; it lasts until taken over."""
    with explained(), TemporaryDirectory() as folder:
        item, selection = chart(key), Selection.from_controls(*values)
        file = Path(folder) / f"{key}.csv"
        with file.open("w", newline="", encoding="utf-8") as target:
            writer = csv.writer(target)
            writer.writerow([f"# {item.title}. {about(selection)}. {provenance(item)}"])
            writer.writerows(chart_rows(item.draw(selection)))
        yield str(file)


def offer_png(key: str, *values: Any) -> Iterator[str]:
    """The chart as a PNG picture."""
    yield from _offer_picture("png", key, *values)


def offer_svg(key: str, *values: Any) -> Iterator[str]:
    """The chart as an SVG drawing."""
    yield from _offer_picture("svg", key, *values)


def offer_pdf(key: str, *values: Any) -> Iterator[str]:
    """The chart for print."""
    yield from _offer_picture("pdf", key, *values)


def _offer_picture(kind: Format, key: str, *values: Any) -> Iterator[str]:
    from app.figures.export.picture import chart_picture  # with matplotlib, which the first page need not wait for

    with explained(), TemporaryDirectory() as folder:
        item, selection = chart(key), Selection.from_controls(*values)
        file = Path(folder) / f"{key}.{kind}"
        file.write_bytes(chart_picture(item.draw(selection), kind, title=f"{item.title}\n{about(selection)}"))
        yield str(file)


def about(selection: Selection) -> str:
    """The selection in one line."""
    balancing = ("CSB + SSC" if selection.ssc else "CSB") if selection.csb else "no balancing"
    dial = f", salience x {selection.strength}, function unchanged" if selection.strength > 1 else ""
    bits = f"W{selection.weight_bits}A{selection.activation_bits}"
    scales = TOKENS[selection.tokens]
    return f"{selection.model}: {selection.layer}, timestep {selection.timestep}, {bits}, {balancing}{scales}{dial}"


def draw_files(*values: Any) -> list[Any]:
    """The files of results of the chosen model, how fast the app answered with it, and what measured that."""
    with explained():
        model = entry(Selection.from_controls(*values).model).name
    felt = feel(model)
    return [files(model), felt, felt["source"]]


def files(model: str) -> dict[str, Any]:
    """A row for each file of results that is kept for a model: of what it is, what wrote it, when, on what."""
    rows = [
        {
            "title": source.file.rsplit("/", 1)[-1],
            "detail": source.holds,
            "state": "other",
            "cells": [
                *(text or "-" for text in (source.of, source.command, source.commit, source.date, source.hardware)),
                source.backend or "-",
                source.seen or "-",
            ],
        }
        for source in sources(model)
    ]
    if not rows:
        return {
            "label": "Files of results",
            "columns": [f"Nothing stored of {model} yet: {command(model)}"],
            "rows": [],
        }
    return {"label": "Files of results", "columns": COLUMNS, "rows": rows}


def feel(model: str) -> dict[str, Any]:
    """How fast the app answered with a model when that was measured; where it was not, how to measure it."""
    try:
        felt, made = load_feel(model)
    except ValueError:
        told = (
            "How fast the app answers was not measured with this model: `assets/recipes/feel.py` does it with the demo."
        )
        return {"label": "How fast", "columns": ["Not measured with this model"], "rows": [], "source": told}
    rows = [{"title": one.what, "detail": "", "state": "other", "cells": [one.bar, one.measured]} for one in felt]
    source = f"Measured by {made.get('command')}, commit {made.get('commit')}, {made.get('hardware')}."
    return {"label": "How fast", "columns": ["What", "bar, at most", "measured"], "rows": rows, "source": source}


def _asked(
    chart_name: str,
    layer: str,
    timestep: int,
    weight_bits: int,
    activation_bits: int,
    csb: bool,
    ssc: bool,
    strength: int,
    model: str,
    tokens: bool,
) -> tuple[Chart, Selection]:
    """What `chart_data` is asked for."""
    return chart(chart_name), Selection(
        model=named(model),
        layer=layer,
        timestep=timestep,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        csb=csb,
        ssc=ssc,
        strength=strength,
        tokens=tokens,
    )


@checked_by(_asked)
def chart_data(
    chart_name: str = "methods-ranking",
    layer: str = "blocks.0.fc1",
    timestep: int = 500,
    weight_bits: int = 4,
    activation_bits: int = 8,
    csb: bool = True,
    ssc: bool = True,
    strength: int = 1,
    model: str = "",
    tokens: bool = False,
) -> dict[str, Any]:
    """Look up the data of any chart of the app.

    Args:
        chart_name: such as "methods-ranking" or "inspect-channels"; an unknown name is answered with all names.
        layer: such as "blocks.3.fc1".
        timestep: 0 to 999; the nearest calibrated timestep answers.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8.
        csb: Channel-wise Salience Balancing.
        ssc: Spearman's rho-guided Salience Calibration; needs csb.
        strength: salience dial, 1 (as trained), 2, 4, 8 or 16; the model's function is unchanged.
        model: a name that /models lists; the first one if empty.
        tokens: a scale for every token's input instead of one for all.

    Returns:
        model, chart, title, source, made_by ("simulated", "integer" or "none"), columns and rows.
    """
    with explained():
        item, selection = _asked(
            chart_name, layer, timestep, weight_bits, activation_bits, csb, ssc, strength, model, tokens
        )
        columns, *rows = chart_rows(item.draw(selection))
    return {
        "model": selection.model,
        "chart": chart_name,
        "title": item.title,
        "source": item.source,
        "made_by": item.backend,
        "columns": list(columns),
        "rows": [list(row) for row in rows],
    }
