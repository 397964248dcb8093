"""The layer's quantization error with no balancing, CSB, and CSB + SSC: overall, and timestep by timestep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.balancing import NAMES
from app.figures.style import CALIBRATED, NEUTRAL, SPEARMAN, axis, layout

COLOURS = {"none": NEUTRAL, "csb": SPEARMAN, "csb+ssc": CALIBRATED}


def error_figure(errors: Mapping[str, float], chosen: str) -> go.Figure:
    """A bar for each variant, in percent of the layer's output; the chosen variant in full colour."""
    values = [100 * error for error in errors.values()]
    trace = {
        "type": "bar",
        "x": [NAMES[key] for key in errors],
        "y": values,
        "text": [f"{value:.3g}%" for value in values],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {
            "color": [COLOURS[key] for key in errors],
            "opacity": [0.95 if k == chosen else 0.4 for k in errors],
        },
        "hovertemplate": "%{x}: %{y:.4g}%<extra></extra>",
    }
    figure_layout = layout(
        300,
        hovermode="closest",
        bargap=0.45,
        xaxis=axis(showgrid=False),
        yaxis=axis("error, % of the output", rangemode="tozero", nticks=5),
    )
    return go.Figure({"data": [trace], "layout": figure_layout}, skip_invalid=True)


def error_over_time_figure(
    timesteps: np.ndarray, errors: Mapping[str, np.ndarray], chosen: str, timestep: float
) -> go.Figure:
    """A line for each variant over the timesteps (t,), the chosen one in full colour; the chosen timestep is marked."""
    mark = {"type": "line", "x0": timestep, "x1": timestep, "y0": 0, "y1": 1, "yref": "paper"}
    figure_layout = layout(
        300,
        xaxis=axis("timestep, in sampling order", autorange="reversed", showgrid=False, zeroline=False),
        yaxis=axis("error, % of the output", rangemode="tozero", nticks=5),
        shapes=[mark | {"line": {"color": NEUTRAL, "width": 1.5, "dash": "dot"}}],
    )
    traces = [_line(key, timesteps, 100 * values, key == chosen) for key, values in errors.items()]
    return go.Figure({"data": traces, "layout": figure_layout}, skip_invalid=True)


def _line(key: str, timesteps: np.ndarray, values: np.ndarray, chosen: bool) -> dict[str, Any]:
    """One variant's line."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": NAMES[key],
        "x": timesteps,
        "y": values,
        "opacity": 1.0 if chosen else 0.5,
        "line": {"color": COLOURS[key], "width": 2.5 if chosen else 1.5},
        "marker": {"size": 5},
        "hovertemplate": "%{y:.3g}%",
    }
