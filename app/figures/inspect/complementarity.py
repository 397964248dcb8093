"""Activation salience against weight salience, channel by channel: the extremes rarely coincide."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures.style import ACTIVATION, BALANCED, axis, layout

LOG = {"type": "log", "dtick": "D2", "minorloglabels": "complete"}


def complementarity_figure(
    activation: np.ndarray, weight: np.ndarray, balanced: tuple[np.ndarray, np.ndarray] | None
) -> go.Figure:
    """One dot a channel on logarithmic axes.

    activation, weight: (channel,) salience before balancing; balanced: both after it, or None where nothing is.
    """
    traces = [_dots("before", activation, weight, ACTIVATION, 0.75 if balanced is None else 0.35)]
    if balanced is not None:
        traces.append(_dots("balanced", *balanced, BALANCED, 0.75))
    figure_layout = layout(
        300,
        hovermode="closest",
        xaxis=axis("activation salience", zeroline=False, **LOG),
        yaxis=axis("weight salience", zeroline=False, **LOG),
    )
    return go.Figure({"data": traces, "layout": figure_layout}, skip_invalid=True)


def _dots(name: str, activation: np.ndarray, weight: np.ndarray, colour: str, opacity: float) -> dict[str, Any]:
    """The channels as dots."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": activation,
        "y": weight,
        "customdata": np.arange(len(activation)),
        "marker": {"color": colour, "size": 6, "opacity": opacity},
        "hovertemplate": "channel %{customdata}<br>activation %{x:.3g}<br>weight %{y:.3g}<extra></extra>",
    }
