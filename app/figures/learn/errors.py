"""What is lost of a layer's output in several ways: bars beneath a lesson's chart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.figures.style import ACTIVATION, BALANCED, NEUTRAL, TEXT, axis

LEAST = 0.38  # share of the height that the bars take
_REFERENCE = "CSB + SSC"


def error_bars(errors: Mapping[str, float], chosen: str) -> dict[str, Any]:
    """A bar for each way, by its name, in percent; the chosen one in full colour, balancing in its own."""
    names = list(errors)
    values = [100 * errors[name] for name in names]
    return {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": values,
        "xaxis": "x2",
        "yaxis": "y2",
        "text": [f"{value:.3g}%" for value in values],
        "textposition": "outside",
        "textfont": {"color": TEXT},
        "cliponaxis": False,
        "marker": {
            "color": [ACTIVATION if n == chosen else BALANCED if n == _REFERENCE else NEUTRAL for n in names],
            "opacity": [1.0 if name == chosen else 0.55 for name in names],
        },
        "showlegend": False,
        "hovertemplate": "%{y}: %{x:.4g}% of the output<extra></extra>",
    }


def error_axes(errors: Mapping[str, float]) -> dict[str, Any]:
    """Their two axes: room for the numbers at the right, the first way on top."""
    most = 100 * max(errors.values(), default=0.0)
    return {
        "xaxis2": axis("error, % of the output", anchor="y2", range=[0, 1.35 * most or 1], nticks=5),
        "yaxis2": axis(anchor="x2", domain=[0, LEAST], autorange="reversed", showgrid=False, ticks=""),
    }
