"""One outlier and everyone else: the grid among the ordinary values, and their error as the outlier grows."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures.learn.marks import drops, faint
from app.figures.style import ACTIVATION, BALANCED, NEUTRAL, WEIGHT, axis, layout

_EDGE = 1.25  # the number line shows the ordinary values and a little more


def outlier_figure(
    values: np.ndarray, rounded: np.ndarray, levels: np.ndarray, sizes: np.ndarray, errors: np.ndarray, at: int
) -> go.Figure:
    """Two charts: a number line on top, a curve beneath.

    values, rounded (n,): the last is the outlier; levels: the grid's; sizes, errors (m,): the curve, errors as
    fractions; at: the index of the chosen size.
    """
    near = levels[np.abs(levels) <= _EDGE]
    size = float(values[-1])
    traces = [
        drops(values[:-1], rounded[:-1]),
        faint("ordinary", values[:-1], np.ones(len(values) - 1), ACTIVATION),
        faint("rounded", rounded[:-1], np.zeros(len(values) - 1), BALANCED, symbol="diamond"),
        _outlier(size),
        _curve(sizes, 100 * errors),
        _here(float(sizes[at]), 100 * float(errors[at])),
    ]
    figure_layout = layout(
        400,
        hovermode="closest",
        xaxis=axis("value", anchor="y", showgrid=False, zeroline=False, range=[-_EDGE, _EDGE + 0.15]),
        yaxis=axis(
            domain=[0.6, 1],
            showgrid=False,
            zeroline=False,
            range=[-0.35, 1.45],
            tickvals=[0, 1],
            ticktext=["grid", "x"],
        ),
        xaxis2=axis("size of the outlier", anchor="y2", range=[0.5, 30.5]),
        yaxis2=axis("error, %", domain=[0, 0.36], range=[0, 108], nticks=4),
        shapes=[_level(float(level)) for level in near],
    )
    return go.Figure({"data": traces, "layout": figure_layout}, skip_invalid=True)


def _level(level: float) -> dict[str, Any]:
    """A line through the number line at one level of the grid."""
    line = {"color": NEUTRAL, "width": 1.5}
    return {"type": "line", "x0": level, "x1": level, "y0": -0.25, "y1": 0.25, "line": line, "layer": "below"}


def _outlier(size: float) -> dict[str, Any]:
    """The outlier, where it stands or, beyond the chart, an arrow that says where."""
    beyond = size > _EDGE
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "outlier",
        "x": [_EDGE + 0.06 if beyond else size],
        "y": [1],
        "text": [f"at {size:g}"],
        "textposition": "top left" if beyond else "top center",
        "textfont": {"color": WEIGHT, "size": 13},
        "marker": {"color": WEIGHT, "size": 12, "symbol": "triangle-right" if beyond else "circle"},
        "cliponaxis": False,
        "hovertemplate": f"{size:g}<extra></extra>",
    }


def _curve(sizes: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """The ordinary values' error over the outlier's size."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": sizes,
        "y": errors,
        "xaxis": "x2",
        "yaxis": "y2",
        "line": {"color": NEUTRAL, "width": 2},
        "showlegend": False,
        "hovertemplate": "outlier %{x:g}: error %{y:.1f}%<extra></extra>",
    }


def _here(size: float, error: float) -> dict[str, Any]:
    """Where the reader is on the curve."""
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [size],
        "y": [error],
        "xaxis": "x2",
        "yaxis": "y2",
        "text": [f"{error:.0f}%"],
        "textposition": "top right" if size < 15 else "bottom left",
        "textfont": {"color": WEIGHT, "size": 13},
        "marker": {"color": WEIGHT, "size": 11},
        "showlegend": False,
        "hoverinfo": "skip",
    }
