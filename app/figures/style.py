"""What all charts share: colours that the colour-blind can tell apart, and a layout legible on light and dark pages.

The colours are Okabe and Ito's, the blue a little lighter: each stands out at least 3 to 1 from white and from dark.
"""

from __future__ import annotations

from typing import Any

ACTIVATION = "#2A86C2"
WEIGHT = "#D55E00"
BALANCED = "#009E73"
SPEARMAN = "#CC79A7"
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


# Cividis at equal steps: rises evenly in lightness, told apart by the colour-blind.
_CIVIDIS = (
    "#00224e",
    "#123570",
    "#3b496c",
    "#575d6d",
    "#707173",
    "#8a8678",
    "#a59c74",
    "#c3b369",
    "#e1cc55",
    "#fee838",
)


def heat_colours(fraction: float) -> tuple[str, str]:
    """Fill and ink, as hex colours, for a value at `fraction` (0..1, clamped) of its range."""
    position = min(max(fraction, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    low = min(int(position), len(_CIVIDIS) - 2)
    channels = [
        round(a + (b - a) * (position - low)) for a, b in zip(_rgb(_CIVIDIS[low]), _rgb(_CIVIDIS[low + 1]), strict=True)
    ]
    fill = "#" + "".join(f"{channel:02x}" for channel in channels)
    return fill, "#ffffff" if _luminance(channels) < 0.179 else "#000000"


def _rgb(colour: str) -> list[int]:
    """A hex colour's red, green and blue, 0..255."""
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _luminance(channels: list[int]) -> float:
    """Relative luminance, 0..1, of red, green and blue 0..255 (WCAG 2)."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
