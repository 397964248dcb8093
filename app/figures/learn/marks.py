"""Marks that the number lines share."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.figures.style import NEUTRAL


def drops(values: np.ndarray, rounded: np.ndarray) -> dict[str, Any]:
    """A thin line from each value (n,), at height 1, to what it is rounded to (n,), at height 0."""
    gaps = np.full(len(values), np.nan)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": np.column_stack([values, rounded, gaps]).ravel(),
        "y": np.tile([1.0, 0.0, np.nan], len(values)),
        "line": {"color": NEUTRAL, "width": 1},
        "opacity": 0.5,
        "showlegend": False,
        "hoverinfo": "skip",
    }


def faint(name: str, x: np.ndarray, y: np.ndarray, colour: str, symbol: str = "circle") -> dict[str, Any]:
    """Dots that may lie on top of each other."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": x,
        "y": y,
        "marker": {"color": colour, "size": 8, "symbol": symbol, "opacity": 0.85},
        "hovertemplate": "%{x:.4g}<extra></extra>",
    }
