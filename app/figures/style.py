"""What all charts share: colours that the colour-blind can tell apart, and a layout legible on light and dark pages.

The colours are Okabe and Ito's, the blue a little lighter, and a violet: each stands out at least 3 to 1 from white and
from dark.
"""

from __future__ import annotations

from typing import Any

ACTIVATION = "#2A86C2"
WEIGHT = "#D55E00"
BALANCED = "#009E73"
SPEARMAN = "#CC79A7"
CALIBRATED = "#7E6BE0"  # CSB + SSC as one of the ways; green would say that it pays
NEUTRAL = "#7C8798"
TEXT = "#7C8798"
GRID = "rgba(124, 135, 152, 0.22)"
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis with a quiet grid; `more` are Plotly axis attributes."""
    base = {
        "title": {"text": title, "standoff": 8},
        "gridcolor": GRID,
        "zerolinecolor": GRID,
        "linecolor": GRID,
        "automargin": True,
        "fixedrange": True,
    }
    return base | more


def layout(height: int, **more: Any) -> dict[str, Any]:
    """A transparent layout of the given height in pixels; `more` are Plotly layout attributes."""
    base = {
        "template": "none",
        "height": height,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": TEXT},
        "margin": {"l": 44, "r": 8, "t": 28, "b": 40},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "hovermode": "x unified",
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "dragmode": False,
    }
    return base | more
