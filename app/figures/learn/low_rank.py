"""The singular values of a weight, those of a float branch in colour; and what is lost with a branch of each rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures.style import ACTIVATION, BALANCED, NEUTRAL, WEIGHT, axis, layout


def low_rank_figure(
    singular: np.ndarray, errors: Mapping[int, float], rank: int, references: Mapping[str, float]
) -> go.Figure:
    """singular (n,): the largest first; errors: by rank; rank: the chosen one; references: errors of other ways."""
    figure_layout = layout(
        440,
        hovermode="closest",
        xaxis=axis("singular values, largest first", anchor="y", showgrid=False, zeroline=False),
        yaxis=axis("size", domain=[0.62, 1], rangemode="tozero", nticks=4),
        xaxis2=axis("rank of the branch", anchor="y2", showgrid=False, zeroline=False),
        yaxis2=axis("error, %", domain=[0, 0.4], rangemode="tozero", nticks=4),
    )
    ends = np.array([min(errors), max(errors)], float)
    levels = [_level(name, ends, 100 * value) for name, value in references.items()]
    traces = [*_values(singular, rank), *levels, _curve(errors), _here(rank, 100 * errors[rank])]
    return go.Figure({"data": traces, "layout": figure_layout}, skip_invalid=True)


def _values(singular: np.ndarray, rank: int) -> list[dict[str, Any]]:
    """The singular values in the branch, and those that are left to round."""
    parts = [("in the branch, float", slice(None, rank), BALANCED), ("left to round", slice(rank, None), NEUTRAL)]
    place = np.arange(1, len(singular) + 1)
    return [
        {
            "type": "bar",
            "name": name,
            "x": place[part],
            "y": singular[part].astype(np.float32),
            "marker": {"color": colour, "line": {"width": 0}},
            "hovertemplate": "number %{x}: %{y:.3g}<extra></extra>",
        }
        for name, part, colour in parts
    ]


def _level(name: str, ends: np.ndarray, value: float) -> dict[str, Any]:
    """Another way's error, whatever the rank."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": ends,
        "y": np.full(2, value),
        "xaxis": "x2",
        "yaxis": "y2",
        "line": {"color": BALANCED if "CSB" in name else NEUTRAL, "width": 2, "dash": "dash"},
        "hovertemplate": f"{name}: %{{y:.3g}}%<extra></extra>",
    }


def _curve(errors: Mapping[int, float]) -> dict[str, Any]:
    """The error over the rank."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "with a branch",
        "x": list(errors),
        "y": [100 * value for value in errors.values()],
        "xaxis": "x2",
        "yaxis": "y2",
        "line": {"color": ACTIVATION, "width": 2},
        "marker": {"size": 6},
        "hovertemplate": "rank %{x}: %{y:.3g}%<extra></extra>",
    }


def _here(rank: int, error: float) -> dict[str, Any]:
    """The chosen rank."""
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [rank],
        "y": [error],
        "xaxis": "x2",
        "yaxis": "y2",
        "text": [f"{error:.3g}%"],
        "textposition": "top right",
        "textfont": {"color": WEIGHT, "size": 13},
        "cliponaxis": False,
        "marker": {"color": WEIGHT, "size": 11},
        "showlegend": False,
        "hoverinfo": "skip",
    }
