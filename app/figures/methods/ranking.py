"""Methods beside each other: a dot with its confidence interval in a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

import plotly.graph_objects as go

from app.figures.style import ACTIVATION, BALANCED, NEUTRAL, TEXT, WEIGHT, axis, layout

ROW = 28  # pixels
LINE = 28  # characters of the title that fit beside the names on a phone


@dataclass(frozen=True, kw_only=True)
class Row:
    """One dot: its name, its value, the ends of its interval where there is one, whether it is the one compared to."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    chosen: bool = False


def ranking_figure(rows: Sequence[Row], title: str) -> go.Figure:
    """Dots with their intervals, the first row on top, the chosen one in the colour of what is balanced.

    rows: in the order shown; title: of the axis, with its unit.
    """
    colours = [BALANCED if row.chosen else ACTIVATION for row in rows]
    return _dots(rows, title, colours, ["diamond" if row.chosen else "circle" for row in rows])


def difference_figure(rows: Sequence[Row], title: str) -> go.Figure:
    """As `ranking_figure`, of differences: a line at 0; grey where the interval holds 0, else by sign."""
    colours = [_sign_colour(row) for row in rows]
    figure = _dots(rows, title, colours, [_sign_mark(row) for row in rows])
    figure.add_vline(0, line={"color": NEUTRAL, "width": 1.5, "dash": "dot"})
    return figure


def _dots(rows: Sequence[Row], title: str, colours: list[str], marks: list[str]) -> go.Figure:
    trace = {
        "type": "scatter",
        "mode": "markers",
        "name": title,
        "x": [row.value for row in rows],
        "y": [row.name for row in rows],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [0 if row.high is None else row.high - row.value for row in rows],
            "arrayminus": [0 if row.low is None else row.value - row.low for row in rows],
            "color": TEXT,
            "thickness": 1.5,
            "width": 4,
        },
        "marker": {"color": colours, "symbol": marks, "size": 10},
        "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
    }
    lines = wrap(title, LINE)
    shape = layout(
        ROW * len(rows) + 60 + 16 * len(lines),
        hovermode="closest",
        showlegend=False,
        margin={"l": 8, "r": 12, "t": 8, "b": 44},
        xaxis=axis("<br>".join(lines), nticks=6),
        yaxis=axis(autorange="reversed", showgrid=False, ticklabelstandoff=6),
    )
    return go.Figure({"data": [trace], "layout": shape}, skip_invalid=True)


def _is_zero(row: Row) -> bool:
    return row.low is None or row.high is None or row.low <= 0 <= row.high


def _sign_colour(row: Row) -> str:
    return NEUTRAL if _is_zero(row) else BALANCED if row.value > 0 else WEIGHT


def _sign_mark(row: Row) -> str:
    return "circle-open" if _is_zero(row) else "triangle-right" if row.value > 0 else "triangle-left"
