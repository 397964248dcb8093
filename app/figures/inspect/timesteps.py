"""Spearman's rho over the timesteps, and beneath it how much each timestep counts in the balancing."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures.style import BALANCED, NEUTRAL, SPEARMAN, axis, layout


def timesteps_figure(
    timesteps: np.ndarray,
    rho: np.ndarray,
    rho_balanced: np.ndarray | None,
    weights: np.ndarray,
    weights_used: bool,
    chosen: float,
) -> go.Figure:
    """Two charts on one timestep axis, the chosen timestep marked in both.

    timesteps (t,); rho, rho_balanced (t,) in -1..1 before and after balancing, None where nothing is balanced;
    weights (t,) of each timestep, adding up to 1; weights_used: whether the balancing on show uses them; chosen: one of
    the timesteps.
    """
    traces = [_line("rho", timesteps, rho, SPEARMAN)]
    if rho_balanced is not None:
        traces.append(_line("rho balanced", timesteps, rho_balanced, BALANCED))
    traces.append(_bars(timesteps, weights, weights_used))
    figure_layout = layout(
        340,
        xaxis=axis("timestep, in sampling order", autorange="reversed", anchor="y2", showgrid=False, zeroline=False),
        yaxis=axis("rho", domain=[0.42, 1], range=[-1.05, 1.05], dtick=0.5),
        yaxis2=axis("weight", domain=[0, 0.34], rangemode="tozero", nticks=4),
        hoversubplots="axis",
        shapes=[_mark(chosen)],
    )
    return go.Figure({"data": traces, "layout": figure_layout}, skip_invalid=True)


def _line(name: str, timesteps: np.ndarray, values: np.ndarray, colour: str) -> dict[str, Any]:
    """A line with a dot at every calibrated timestep."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": timesteps,
        "y": values,
        "line": {"color": colour, "width": 2},
        "marker": {"size": 5},
        "hovertemplate": "%{y:.2f}",
    }


def _bars(timesteps: np.ndarray, weights: np.ndarray, used: bool) -> dict[str, Any]:
    """How much each timestep counts; pale where the balancing does not ask."""
    return {
        "type": "bar",
        "name": "weight" if used else "weight, not in use",
        "x": timesteps,
        "y": weights,
        "yaxis": "y2",
        "marker": {"color": BALANCED if used else NEUTRAL, "opacity": 0.85 if used else 0.35, "line": {"width": 0}},
        "hovertemplate": "%{y:.3f}",
    }


def _mark(timestep: float) -> dict[str, Any]:
    """A vertical line through both charts."""
    line = {"color": NEUTRAL, "width": 1.5, "dash": "dot"}
    return {"type": "line", "x0": timestep, "x1": timestep, "y0": 0, "y1": 1, "yref": "paper", "line": line}
