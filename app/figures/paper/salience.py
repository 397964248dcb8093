"""Salience over channels: max |X_j| of the activation and max |W_j| of the weight, as calibrated (PTQ4DiT eq. 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from app.figures.style import ACTIVATION, WEIGHT, axis, layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

NAMED = 3  # channels of each side whose number is written at their peak


@dataclass(frozen=True, kw_only=True, eq=False)
class SaliencePlate:
    """activation, weight: (channel,) salience of one layer at one timestep; log: on logarithmic axes."""

    activation: np.ndarray
    weight: np.ndarray
    log: bool = False

    height = 3.0
    heading = ("channel", "s(X)", "s(W)")

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """A row a channel."""
        yield from zip(range(len(self.weight)), self.activation.tolist(), self.weight.tolist(), strict=True)

    def page(self) -> go.Figure:
        """Two charts on one channel axis."""
        sides = (("activation", self.activation, ACTIVATION, "y"), ("weight", self.weight, WEIGHT, "y2"))
        kind = {"type": "log" if self.log else "linear", "rangemode": "tozero", "nticks": 5}
        figure_layout = layout(
            360,
            showlegend=False,
            xaxis=axis("input channel j", anchor="y2", showgrid=False, zeroline=False),
            yaxis=axis("max |X<sub>j</sub>|", domain=[0.56, 1], **kind),
            yaxis2=axis("max |W<sub>j</sub>|", domain=[0, 0.44], **kind),
            hoversubplots="axis",
            annotations=[one for _, values, _, y in sides for one in self._named(values, y)],
        )
        return go.Figure({"data": [_area(*side) for side in sides], "layout": figure_layout}, skip_invalid=True)

    def draw(self, place: FigureBase) -> None:
        """The same for print."""
        upper, lower = place.subplots(2, 1, sharex=True)
        self._side(upper, self.activation, ACTIVATION, r"$\max\,|\mathbf{X}_j|$")
        self._side(lower, self.weight, WEIGHT, r"$\max\,|\mathbf{W}_j|$")
        lower.set_xlabel("input channel $j$")

    def _side(self, axes: Axes, values: np.ndarray, colour: str, label: str) -> None:
        floor = positive(values).min() / 1.3 if self.log else 0.0
        edges = np.arange(len(values) + 1) - 0.5
        axes.stairs(values, edges, baseline=floor, fill=True, color=colour, linewidth=0.3)
        axes.set(ylabel=label, yscale="log" if self.log else "linear", xlim=(edges[0], edges[-1]))
        axes.set_ylim(floor, values.max() * (1.8 if self.log else 1.16))
        for j in most_salient(values):
            axes.annotate(
                str(j), (float(j), float(values[j])), (0, 1.5), textcoords="offset points", ha="center", size=6
            )

    def _named(self, values: np.ndarray, y: str) -> list[dict[str, Any]]:
        return [
            {
                "text": str(j),
                "x": j,
                "y": float(np.log10(max(values[j], 1e-12)) if self.log else values[j]),
                "yref": y,
                "yshift": 8,
                "showarrow": False,
                "font": {"size": 10},
            }
            for j in most_salient(values)
        ]


def most_salient(values: np.ndarray, apart: float = 0.03) -> list[int]:
    """Up to NAMED channels, the most salient first, whose numbers stand far enough apart to be read."""
    chosen: list[int] = []
    for j in np.argsort(-values)[: 8 * NAMED].tolist():
        if len(chosen) < NAMED and all(abs(j - k) > apart * len(values) for k in chosen):
            chosen.append(j)
    return chosen


def positive(values: np.ndarray) -> np.ndarray:
    """Those above zero, which alone stand on a logarithmic axis; a tiny one where there are none."""
    return values[values > 0] if (values > 0).any() else np.array([1e-12])


def _area(name: str, values: np.ndarray, colour: str, y: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": np.arange(len(values)),
        "y": values.astype(np.float32),
        "yaxis": y,
        "line": {"color": colour, "width": 0.8, "shape": "hvh"},
        "fill": "tozeroy",
        "hovertemplate": "%{y:.3g}",
    }
