"""Three charts that move together: salience at one timestep, rho over the timesteps, and each timestep's weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.figures.style import ACTIVATION, BALANCED, NEUTRAL, SPEARMAN, WEIGHT, axis, layout


def timestep_figure(
    *,
    salience: np.ndarray,
    average: np.ndarray,
    highest: float,
    timesteps: np.ndarray,
    rho: np.ndarray,
    weights: np.ndarray,
    at: int,
) -> go.Figure:
    """salience (channel,) at timestep number `at` of (t,), the weighted `average` (channel,), rho and weights (t,).

    highest: the largest salience of all timesteps, which the axis keeps to.
    """
    traces = [
        _now(salience),
        _average(average),
        _line(timesteps, rho),
        _dot(float(timesteps[at]), float(rho[at])),
        _bars(timesteps, weights, at),
    ]
    figure_layout = layout(
        440,
        hovermode="closest",
        bargap=0.25,
        xaxis=axis("input channel", anchor="y", showgrid=False, zeroline=False),
        yaxis=axis("salience", domain=[0.68, 1], range=[0, 1.05 * highest], nticks=4),
        xaxis2=axis("timestep, in sampling order", anchor="y3", autorange="reversed", showgrid=False, zeroline=False),
        yaxis2=axis("ρ", domain=[0.26, 0.5], range=[-1.05, 1.05], dtick=1),
        yaxis3=axis("η, % off equal", domain=[0, 0.2], nticks=3),
        shapes=[_mark(float(timesteps[at]))],
    )
    return go.Figure({"data": traces, "layout": figure_layout}, skip_invalid=True)


def _now(salience: np.ndarray) -> dict[str, Any]:
    """Salience at the chosen timestep."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "at this timestep",
        "y": salience.astype(np.float32),
        "line": {"color": ACTIVATION, "width": 1, "shape": "hvh"},
        "fill": "tozeroy",
        "hovertemplate": "channel %{x}: %{y:.3g}<extra></extra>",
    }


def _average(average: np.ndarray) -> dict[str, Any]:
    """The one salience that SSC makes of all timesteps."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "weighted average",
        "y": average.astype(np.float32),
        "line": {"color": BALANCED, "width": 1.6, "shape": "hvh"},
        "hovertemplate": "channel %{x}: %{y:.3g}<extra></extra>",
    }


def _line(timesteps: np.ndarray, rho: np.ndarray) -> dict[str, Any]:
    """rho at every calibrated timestep."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": timesteps,
        "y": rho,
        "xaxis": "x2",
        "yaxis": "y2",
        "line": {"color": SPEARMAN, "width": 2},
        "marker": {"size": 4},
        "showlegend": False,
        "hovertemplate": "timestep %{x}: rho %{y:.2f}<extra></extra>",
    }


def _dot(timestep: float, rho: float) -> dict[str, Any]:
    """rho at the chosen timestep."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [timestep],
        "y": [rho],
        "xaxis": "x2",
        "yaxis": "y2",
        "marker": {"color": WEIGHT, "size": 11},
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _bars(timesteps: np.ndarray, weights: np.ndarray, at: int) -> dict[str, Any]:
    """How much each timestep counts beside an equal share, in percent, the chosen one in its own colour."""
    return {
        "type": "bar",
        "x": timesteps,
        "y": 100 * (weights * len(weights) - 1),
        "customdata": weights,
        "xaxis": "x2",
        "yaxis": "y3",
        "marker": {"color": [WEIGHT if i == at else BALANCED for i in range(len(weights))], "line": {"width": 0}},
        "showlegend": False,
        "hovertemplate": "timestep %{x}: weight %{customdata:.4f}, %{y:+.1f}% off an equal share<extra></extra>",
    }


def _mark(timestep: float) -> dict[str, Any]:
    """A line through both timestep charts."""
    line = {"color": NEUTRAL, "width": 1.5, "dash": "dot"}
    at = {"x0": timestep, "x1": timestep, "y0": 0, "y1": 0.5}
    return {"type": "line", "xref": "x2", "yref": "paper", "line": line} | at
