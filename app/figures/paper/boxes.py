"""Box plots over timesteps: how the activation salience of a layer's channels spreads at each, and which stand out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from app.figures.paper.plate import SAMPLING_ORDER
from app.figures.style import ACTIVATION, WEIGHT, axis, layout

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

DOTS = 12  # channels beyond the whiskers that the page draws at each timestep; print draws all


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxesPlate:
    """timesteps (t,), in sampling order; salience (t, channel); its spread over channels, (t,) each.

    low, high: the whiskers' ends; first, median, third: the quartiles; beyond: channels above the whisker at each
    timestep, the most salient first; log: on a logarithmic axis.
    """

    timesteps: np.ndarray
    salience: np.ndarray
    low: np.ndarray
    first: np.ndarray
    median: np.ndarray
    third: np.ndarray
    high: np.ndarray
    beyond: Sequence[np.ndarray]
    log: bool = False

    height = 2.4
    heading = (
        "timestep",
        "whisker low",
        "first quartile",
        "median",
        "third quartile",
        "whisker high",
        "beyond",
        "s(X)",
    )

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """A row a timestep, then one for each channel beyond its whisker."""
        parts = (self.low, self.first, self.median, self.third, self.high)
        for i, t in enumerate(self.timesteps.tolist()):
            yield t, *(float(part[i]) for part in parts), "", ""
            for j in self.beyond[i].tolist():
                yield t, "", "", "", "", "", j, float(self.salience[i, j])

    def page(self) -> go.Figure:
        """A box a timestep, and the channels beyond as dots that name themselves."""
        kind = {"type": "log" if self.log else "linear", "nticks": 6}
        figure_layout = layout(
            360,
            hovermode="closest",
            showlegend=False,
            xaxis=axis("timestep t, in sampling order", **SAMPLING_ORDER),
            yaxis=axis("max |X<sub>j</sub>| over channels j", **kind),
        )
        return go.Figure({"data": [self._boxes(), self._dots()], "layout": figure_layout}, skip_invalid=True)

    def draw(self, place: FigureBase) -> None:
        """The same for print."""
        axes = place.subplots()
        boxes = [
            {
                "whislo": self.low[i],
                "q1": self.first[i],
                "med": self.median[i],
                "q3": self.third[i],
                "whishi": self.high[i],
                "fliers": self.salience[i, self.beyond[i]],
            }
            for i in range(len(self.timesteps))
        ]
        places = np.arange(len(self.timesteps))
        axes.bxp(
            boxes,
            positions=places,
            widths=0.6,
            patch_artist=True,
            boxprops={"facecolor": ACTIVATION, "alpha": 0.55, "linewidth": 0.6},
            medianprops={"color": "black", "linewidth": 0.8},
            whiskerprops={"linewidth": 0.6},
            capprops={"linewidth": 0.6},
            flierprops={"marker": ".", "markersize": 2, "markeredgecolor": WEIGHT, "markerfacecolor": WEIGHT},
        )
        every = max(1, len(places) // 9)
        axes.set_xticks(places[::every], [f"{t:g}" for t in self.timesteps[::every]])
        axes.set(xlabel="timestep $t$, in sampling order", ylabel=r"$\max\,|\mathbf{X}_j|$ over channels $j$")
        axes.set_yscale("log" if self.log else "linear")

    def _boxes(self) -> dict[str, Any]:
        spacing = float(np.abs(np.diff(self.timesteps)).min()) if len(self.timesteps) > 1 else 1.0
        return {
            "type": "box",
            "name": "channels",
            "x": self.timesteps,
            "lowerfence": self.low,
            "q1": self.first,
            "median": self.median,
            "q3": self.third,
            "upperfence": self.high,
            "width": 0.6 * spacing,
            "line": {"color": ACTIVATION, "width": 1.2},
        }

    def _dots(self) -> dict[str, Any]:
        chosen = [(i, j) for i, found in enumerate(self.beyond) for j in found[:DOTS].tolist()]
        return {
            "type": "scatter",
            "mode": "markers",
            "name": "beyond the whiskers",
            "x": [self.timesteps[i] for i, _ in chosen],
            "y": [float(self.salience[i, j]) for i, j in chosen],
            "customdata": [j for _, j in chosen],
            "marker": {"color": WEIGHT, "size": 4},
            "hovertemplate": "channel %{customdata} at timestep %{x}: %{y:.3g}<extra></extra>",
        }
