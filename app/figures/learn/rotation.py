"""The largest magnitude of every channel, as it is and rotated; and what each way loses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures.learn.errors import error_axes, error_bars
from app.figures.style import ACTIVATION, BALANCED, axis, layout


def rotation_figure(before: np.ndarray, after: np.ndarray, errors: Mapping[str, float], chosen: str) -> go.Figure:
    """before, after (channel,): largest magnitudes; errors: by name, the chosen one in full colour."""
    figure_layout = layout(
        440,
        hovermode="closest",
        bargap=0.35,
        xaxis=axis("input channel", anchor="y", showgrid=False, zeroline=False),
        yaxis=axis("largest magnitude", domain=[0.58, 1], rangemode="tozero", nticks=5),
        **error_axes(errors),
    )
    traces = [
        _edge("as it is", before, ACTIVATION),
        _edge("rotated", after, BALANCED),
        error_bars(errors, chosen),
    ]
    return go.Figure({"data": traces, "layout": figure_layout}, skip_invalid=True)


def _edge(name: str, values: np.ndarray, colour: str) -> dict[str, Any]:
    """A level for each channel, one path for all of them."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": np.arange(len(values)),
        "y": values.astype(np.float32),
        "line": {"color": colour, "width": 1.4, "shape": "hvh"},
        "hovertemplate": f"channel %{{x}}, {name}: %{{y:.3g}}<extra></extra>",
    }
