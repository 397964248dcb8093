"""A number line: values above, the quantization grid below, and where each value is rounded to."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures.learn.marks import drops, faint
from app.figures.style import ACTIVATION, BALANCED, NEUTRAL, WEIGHT, axis, layout

MOST_NUMBERED = 8  # levels whose integer is written beneath them; of more, every so many, and zero


def rounding_figure(
    values: np.ndarray, rounded: np.ndarray, levels: np.ndarray, zero_point: int, followed: int
) -> go.Figure:
    """The values (n,), what they are rounded to (n,) and the grid's levels (2^b,).

    zero_point: the index of the level that stands for 0; followed: the index of the value that is pointed out.
    """
    traces = [
        _grid(levels),
        drops(values, rounded),
        faint("values", values, np.ones(len(values)), ACTIVATION),
        faint("rounded", rounded, np.zeros(len(rounded)), BALANCED, symbol="diamond"),
        _followed(float(values[followed]), float(rounded[followed])),
        _numbers(levels, zero_point),
    ]
    ends = float(min(levels[0], values.min())), float(max(levels[-1], values.max()))
    margin = 0.04 * (ends[1] - ends[0])
    figure_layout = layout(
        340,
        hovermode="closest",
        xaxis=axis("value", showgrid=False, range=[ends[0] - margin, ends[1] + margin]),
        yaxis=axis(
            showgrid=False, zeroline=False, range=[-0.55, 1.35], tickvals=[-0.3, 0, 1], ticktext=["q", "grid", "x"]
        ),
    )
    return go.Figure({"data": traces, "layout": figure_layout}, skip_invalid=True)


def _grid(levels: np.ndarray) -> dict[str, Any]:
    """A tick for each level."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "grid",
        "x": levels,
        "y": np.zeros(len(levels)),
        "customdata": np.arange(len(levels)),
        "marker": {"symbol": "line-ns-open", "size": 22, "color": NEUTRAL, "line": {"width": 1.5}},
        "opacity": 0.9 if len(levels) <= 4 * MOST_NUMBERED else 0.45,
        "showlegend": False,
        "hovertemplate": "level %{customdata} stands for %{x:.4g}<extra></extra>",
    }


def _followed(value: float, rounded: float) -> dict[str, Any]:
    """The value that is pointed out, and where it goes."""
    return {
        "type": "scatter",
        "mode": "lines+markers+text",
        "name": "followed",
        "x": [value, rounded],
        "y": [1, 0],
        "text": [f"{value:g}", ""],
        "textposition": "top center",
        "textfont": {"color": WEIGHT, "size": 13},
        "line": {"color": WEIGHT, "width": 2},
        "marker": {"color": WEIGHT, "size": [11, 10], "symbol": ["circle", "diamond"]},
        "hovertemplate": "%{x:.4g}<extra></extra>",
    }


def _numbers(levels: np.ndarray, zero_point: int) -> dict[str, Any]:
    """The integers beneath their levels; zero's is bold."""
    numbered = sorted({*range(0, len(levels), max(len(levels) // MOST_NUMBERED, 1)), zero_point})
    return {
        "type": "scatter",
        "mode": "text",
        "x": [levels[q] for q in numbered],
        "y": [-0.3] * len(numbered),
        "text": [f"<b>{q}</b>" if q == zero_point else str(q) for q in numbered],
        "textfont": {"size": 11, "color": NEUTRAL},
        "showlegend": False,
        "hoverinfo": "skip",
    }
