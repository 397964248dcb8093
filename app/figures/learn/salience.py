"""Salience of every channel as mirrored bars, the most salient of each side in full colour."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures.style import ACTIVATION, SPEARMAN, WEIGHT, axis, layout


def salience_figure(
    activation: np.ndarray,
    weight: np.ndarray,
    top_activation: Collection[int],
    top_weight: Collection[int],
    both: Collection[int],
) -> go.Figure:
    """activation upward, weight downward, (channel,) each, as multiples of their medians.

    top_activation, top_weight: channels shown in full colour on their side; both: channels marked on both.
    """
    sides = [
        ("activation", activation, ACTIVATION, top_activation, "y"),
        ("weight", weight, WEIGHT, top_weight, "y2"),
    ]
    traces = [draw(*side) for draw in (_area, _bars) for side in sides]
    if both:
        traces += [_marks(_relative(values), both, y) for _, values, _, _, y in sides]
    figure_layout = layout(
        400,
        bargap=0.0,
        barmode="overlay",
        xaxis=axis("input channel", anchor="y2", showgrid=False, zeroline=False),
        yaxis=axis("activation, x median", domain=[0.5, 1], rangemode="tozero", nticks=5),
        yaxis2=axis("weight, x median", domain=[0, 0.5], autorange="reversed", rangemode="tozero", nticks=5),
        hoversubplots="axis",
    )
    return go.Figure({"data": traces, "layout": figure_layout}, skip_invalid=True)


def _relative(values: np.ndarray) -> np.ndarray:
    """Multiples of the median."""
    return values / max(float(np.median(values)), 1e-12)


def _area(name: str, values: np.ndarray, colour: str, _top: Collection[int], y: str) -> dict[str, Any]:
    """One side, all channels: one path, which a browser redraws at once."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": np.arange(len(values)),
        "y": _relative(values).astype(np.float32),
        "yaxis": y,
        "line": {"color": colour, "width": 0.5, "shape": "hvh"},
        "fill": "tozeroy",
        "opacity": 0.6,
        "hovertemplate": "%{y:.2f}x the median",
    }


def _bars(name: str, values: np.ndarray, colour: str, top: Collection[int], y: str) -> dict[str, Any]:
    """One side, its most salient channels in full colour."""
    chosen = sorted(top)
    return {
        "type": "bar",
        "name": f"{name}, most salient",
        "x": chosen,
        "y": _relative(values)[chosen],
        "width": 1.0,
        "yaxis": y,
        "marker": {"color": colour, "line": {"width": 0}},
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _marks(relative: np.ndarray, channels: Collection[int], y: str) -> dict[str, Any]:
    """A dot at the end of the bars of channels that are among the most salient on both sides."""
    chosen = list(channels)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "on both sides",
        "legendgroup": "both",
        "showlegend": y == "y",
        "x": chosen,
        "y": relative[chosen],
        "yaxis": y,
        "marker": {"color": SPEARMAN, "size": 9, "symbol": "diamond"},
        "cliponaxis": False,
        "hoverinfo": "skip",
    }
