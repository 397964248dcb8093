"""Salience of every channel: the activation's upward, the weight's downward, before and after balancing."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from app.figures.style import ACTIVATION, BALANCED, WEIGHT, axis, layout

Scale = Literal["linear", "log", "median"]
UNITS = {"linear": "", "log": "", "median": ", x median"}


def channels_figure(
    activation: np.ndarray,
    weight: np.ndarray,
    balanced: tuple[np.ndarray, np.ndarray] | None,
    order: np.ndarray,
    scale: Scale = "linear",
) -> go.Figure:
    """Mirrored charts over channels that share one horizontal axis.

    activation, weight: (channel,) salience before balancing; balanced: the same two after it, or None where nothing is
    balanced; order: (channel,) channel numbers from left to right; scale: "median" shows times the median.
    """
    sides = [("activation", activation, ACTIVATION, "y"), ("weight", weight, WEIGHT, "y2")]
    traces = []
    for i, (name, before, colour, y) in enumerate(sides):
        traces.append(_area(name, before, order, scale, colour, y, bold=balanced is None))
        if balanced is not None:
            traces.append(_line("balanced", balanced[i], order, scale, y, legend=i == 0))
    top = _named_top(activation, order, scale)
    return go.Figure({"data": traces, "layout": _layout(order, scale) | {"annotations": [top]}}, skip_invalid=True)


def _named_top(activation: np.ndarray, order: np.ndarray, scale: Scale) -> dict[str, Any]:
    """The number of the most salient activation channel, written over it."""
    top = int(activation.argmax())
    height = activation[top] / np.median(activation) if scale == "median" else activation[top]
    return {
        "text": f"<b>{top}</b>",
        "x": int(np.flatnonzero(order == top)[0]),
        "y": float(np.log10(height) if scale == "log" else height),
        "yshift": 9,
        "showarrow": False,
    }


def _step(name: str, values: np.ndarray, order: np.ndarray, scale: Scale, y: str) -> dict[str, Any]:
    """A stepped trace of values in the given order."""
    shown = values / np.median(values) if scale == "median" else values
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": np.arange(len(order)),
        "y": shown[order].astype(np.float32),
        "customdata": order,
        "yaxis": y,
        "hovertemplate": "%{y:.3g}",
    }


def _area(
    name: str, values: np.ndarray, order: np.ndarray, scale: Scale, colour: str, y: str, *, bold: bool
) -> dict[str, Any]:
    """A filled trace: the salience as calibrated; pale where the balanced one stands before it."""
    look = {
        "line": {"color": colour, "width": 1, "shape": "hvh"},
        "fill": "tozeroy",
        "fillcolor": _faded(colour, 0.75 if bold else 0.45),
    }
    return _step(name, values, order, scale, y) | look


def _line(name: str, values: np.ndarray, order: np.ndarray, scale: Scale, y: str, *, legend: bool) -> dict[str, Any]:
    """An outline: the salience after balancing."""
    look = {"line": {"color": BALANCED, "width": 1.6, "shape": "hvh"}, "showlegend": legend, "legendgroup": "balanced"}
    return _step(name, values, order, scale, y) | look


def _layout(order: np.ndarray, scale: Scale) -> dict[str, Any]:
    """Two charts, one above the other turned upside down, on one channel axis."""
    kind = "log" if scale == "log" else "linear"
    ordered = bool((np.diff(order) == 1).all())
    title = "input channel" if ordered else "input channels, most salient activation first"
    return layout(
        400,
        xaxis=axis(title, anchor="y2", showgrid=False, zeroline=False),
        yaxis=axis(f"activation{UNITS[scale]}", domain=[0.5, 1], type=kind, rangemode="tozero", nticks=5),
        yaxis2=axis(
            f"weight{UNITS[scale]}", domain=[0, 0.5], type=kind, autorange="reversed", rangemode="tozero", nticks=5
        ),
        hoversubplots="axis",
    )


def _faded(colour: str, opacity: float) -> str:
    """A hex colour with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
