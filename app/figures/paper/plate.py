"""What the paper's figures have in common: a figure of a paper is a plate, drawn twice from the same arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import plotly.graph_objects as go

from app.figures.style import ACTIVATION, BALANCED, SPEARMAN, WEIGHT

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

ROLE_COLOURS = (
    ACTIVATION,
    WEIGHT,
    BALANCED,
    SPEARMAN,
    "#A07C00",
    "#7A5CC0",
    "#5B8C2A",
    "#B0413E",
    "#4A8A9A",
    "#9A6A4A",
)
SAMPLING_ORDER: dict[str, Any] = {"autorange": "reversed", "showgrid": False, "zeroline": False}


class Plate(Protocol):
    """One figure of the paper."""

    @property
    def height(self) -> float:
        """Of the drawing, in inches, where it is as wide as a page's text."""

    @property
    def heading(self) -> tuple[str, ...]:
        """The names of `rows`' columns."""

    def rows(self) -> Iterator[Sequence[Any]]:
        """The data, a row each."""

    def page(self) -> go.Figure:
        """The chart for the page."""

    def draw(self, place: FigureBase) -> None:
        """The drawing for print."""


def coloured(roles: Sequence[str]) -> dict[str, str]:
    """Role -> its colour, in order of first appearance."""
    found = list(dict.fromkeys(roles))
    return {role: ROLE_COLOURS[i % len(ROLE_COLOURS)] for i, role in enumerate(found)}
