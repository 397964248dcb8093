"""Both saliences of every channel on one logarithmic axis, on their way to the geometric mean between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures.style import ACTIVATION, BALANCED, NEUTRAL, WEIGHT, axis, layout


def balance_figure(
    activation: np.ndarray, weight: np.ndarray, middle: np.ndarray, span: tuple[float, float]
) -> go.Figure:
    """activation, weight (channel,): where they stand now; middle (channel,): where they meet; channels in its order.

    span: the smallest and largest salience before balancing, which the axis keeps to.
    """
    order = np.argsort(-middle, kind="stable")
    traces = [
        _stems(activation[order], weight[order]),
        _edge("activation", activation, order, ACTIVATION),
        _edge("weight", weight, order, WEIGHT),
        _meeting(middle[order]),
    ]
    low, high = np.log10(span)
    figure_layout = layout(
        400,
        hovermode="closest",
        xaxis=axis("input channels, largest middle first", showgrid=False, zeroline=False),
        yaxis=axis("salience", type="log", range=[low - 0.1, high + 0.1], dtick=1, minor={"ticks": ""}),
    )
    return go.Figure({"data": traces, "layout": figure_layout}, skip_invalid=True)


def _stems(activation: np.ndarray, weight: np.ndarray) -> dict[str, Any]:
    """A line between the two saliences of each channel."""
    count = len(activation)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": np.repeat(np.arange(count), 3),
        "y": np.column_stack([activation, weight, np.full(count, np.nan)]).ravel(),
        "line": {"color": NEUTRAL, "width": 1},
        "opacity": 0.3,
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _edge(name: str, values: np.ndarray, order: np.ndarray, colour: str) -> dict[str, Any]:
    """One side: a level for each channel, one path for all of them, which a browser redraws at once."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": np.arange(len(order)),
        "y": values[order],
        "customdata": order,
        "line": {"color": colour, "width": 1.6, "shape": "hvh"},
        "hovertemplate": f"channel %{{customdata}}, {name}: %{{y:.3g}}<extra></extra>",
    }


def _meeting(middle: np.ndarray) -> dict[str, Any]:
    """Where both sides meet."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "middle",
        "x": np.arange(len(middle)),
        "y": middle,
        "line": {"color": BALANCED, "width": 2.5},
        "hoverinfo": "skip",
    }
