"""The range that one scale must span, for every kept token and its groups; and what each sharing of scales loses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures.learn.errors import error_axes, error_bars
from app.figures.style import ACTIVATION, BALANCED, WEIGHT, axis, layout


def scales_figure(
    tokens: np.ndarray, groups: np.ndarray | None, whole: float, errors: Mapping[str, float], chosen: str
) -> go.Figure:
    """tokens (row,): ranges, the smallest first; groups (row, group): of the groups in each, or None.

    whole: the range of all tokens at all timesteps; errors: by name, the chosen one in full colour.
    """
    place = np.arange(len(tokens))
    traces = [_line("all tokens, all timesteps", place[[0, -1]], np.full(2, whole), WEIGHT)]
    traces.append(_line("one token", place, tokens, ACTIVATION))
    if groups is not None:
        traces.append(_line("a group in it", place, np.median(groups, axis=1), BALANCED))
    figure_layout = layout(
        440,
        hovermode="closest",
        bargap=0.35,
        xaxis=axis("kept tokens by range", anchor="y", showgrid=False, zeroline=False),
        yaxis=axis("range to span", domain=[0.58, 1], rangemode="tozero", nticks=5),
        **error_axes(errors),
    )
    return go.Figure({"data": [*traces, error_bars(errors, chosen)], "layout": figure_layout}, skip_invalid=True)


def _line(name: str, x: np.ndarray, y: np.ndarray, colour: str) -> dict[str, Any]:
    """One kind of range over the tokens."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y.astype(np.float32),
        "line": {"color": colour, "width": 2},
        "hovertemplate": f"{name}: %{{y:.3g}}<extra></extra>",
    }
