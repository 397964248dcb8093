"""Activation salience of every channel at every timestep."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from app.figures.style import WEIGHT, axis, layout


def heatmap_figure(timesteps: np.ndarray, salience: np.ndarray, order: np.ndarray, chosen: float) -> go.Figure:
    """A map of channels (across) by timesteps (down, in sampling order).

    timesteps (t,); salience (t, channel), coloured on a log scale; order (channel,) channel numbers from left to right;
    chosen: the timestep that is marked.
    """
    shown = salience[:, order]
    trace = {
        "type": "heatmap",
        "x": np.arange(len(order)),
        "y": timesteps,
        "z": np.log10(np.maximum(shown, 1e-6)).astype(np.float32),
        "customdata": np.broadcast_to(order, shown.shape),
        "colorscale": "Cividis",
        "hovertemplate": "channel %{customdata}<br>timestep %{y}<br>salience 10^%{z:.2f}<extra></extra>",
        "colorbar": {"thickness": 10, "len": 0.9, "outlinewidth": 0, "title": {"text": "log10", "side": "top"}},
    }
    mark = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": chosen, "y1": chosen}
    figure_layout = layout(
        340,
        hovermode="closest",
        xaxis=axis("input channel", showgrid=False, zeroline=False),
        yaxis=axis("timestep", showgrid=False, zeroline=False),
        shapes=[mark | {"line": {"color": WEIGHT, "width": 1.5}}],
    )
    return go.Figure({"data": [trace], "layout": figure_layout}, skip_invalid=True)
