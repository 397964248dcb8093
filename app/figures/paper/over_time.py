"""rho and eta over timesteps for all layers at once (PTQ4DiT eq. 11)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import plotly.graph_objects as go

from app.figures.paper.lines import draw_lines, line_traces
from app.figures.paper.plate import SAMPLING_ORDER
from app.figures.style import NEUTRAL, axis, layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

READABLE = 34  # layers whose names stand beside the map; of more every so many


@dataclass(frozen=True, kw_only=True, eq=False)
class OverTime:
    """layers and their roles, in model order; timesteps (t,); values (layer, t); chosen: the layer drawn in bold."""

    layers: tuple[str, ...]
    roles: tuple[str, ...]
    timesteps: np.ndarray
    values: np.ndarray
    chosen: str

    def _rows(self, values: np.ndarray) -> Iterator[tuple[Any, ...]]:
        for name, role, row in zip(self.layers, self.roles, values, strict=True):
            yield from ((name, role, t, value) for t, value in zip(self.timesteps.tolist(), row.tolist(), strict=True))

    def _traces(self, values: np.ndarray, unit: str = "") -> list[dict[str, Any]]:
        return line_traces(self.layers, self.roles, self.timesteps, values, self.chosen, unit)

    def _lines(self, axes: Axes, values: np.ndarray) -> None:
        draw_lines(axes, self.layers, self.roles, self.timesteps, values, self.chosen)


class RhoPlate(OverTime):
    """values: Spearman's rho between activation and weight salience, -1..1, of each layer at each timestep."""

    NARROWEST: ClassVar = 0.2  # what the axes reach at least to both sides of 0

    heading: ClassVar = ("layer", "role", "timestep", "rho")

    @property
    def height(self) -> float:
        """Inches: a line a layer in the map, as long as that fits on a page."""
        return 2.0 + min(max(1.2, 0.1 * len(self.layers)), 5.5)

    @property
    def reach(self) -> float:
        """How far axis and colours reach to both sides of 0: as far as any value, to the next tenth."""
        return max(self.NARROWEST, float(np.ceil(10 * np.abs(self.values).max())) / 10)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """A row a layer and timestep."""
        return self._rows(self.values)

    def page(self) -> go.Figure:
        """Lines above, a map of all layers beneath, on one timestep axis."""
        below = min(max(120, 13 * len(self.layers)), 620)
        share = below / (below + 230)
        figure_layout = layout(
            below + 290,
            hovermode="closest",
            xaxis=axis("timestep t, in sampling order", anchor="y2", **SAMPLING_ORDER),
            yaxis=axis("rho", domain=[share + 0.04, 1], range=[-self.reach, self.reach], nticks=5),
            yaxis2=axis(domain=[0, share - 0.04], autorange="reversed", showgrid=False, tickfont={"size": 10}),
        )
        return go.Figure(
            {"data": [*self._traces(self.values), self._map()], "layout": figure_layout}, skip_invalid=True
        )

    def draw(self, place: FigureBase) -> None:
        """The same for print."""
        upper, lower = place.subplots(2, 1, height_ratios=(1.5, self.height - 2.0))
        self._lines(upper, self.values)
        upper.axhline(0, color="black", linewidth=0.5, linestyle=":")
        upper.set(ylabel=r"$\rho(s(\mathbf{X}^{(t)}), s(\mathbf{W}))$", ylim=(-self.reach, self.reach))
        count, last = self.values.shape
        image = lower.imshow(
            self.values, cmap="RdBu_r", vmin=-self.reach, vmax=self.reach, aspect="auto", interpolation="nearest"
        )
        every = max(1, -(-count // READABLE))
        lower.set_yticks(range(0, count, every), self.layers[::every], fontsize=5.5)
        ticks = range(0, last, max(1, last // 9))
        lower.set_xticks(ticks, [f"{self.timesteps[i]:g}" for i in ticks])
        lower.set_xlabel("timestep $t$, in sampling order")
        place.colorbar(image, ax=lower, label=r"$\rho$", location="bottom", shrink=0.4, aspect=40)

    def _map(self) -> dict[str, Any]:
        return {
            "type": "heatmap",
            "x": self.timesteps,
            "y": list(self.layers),
            "z": self.values.astype(np.float32),
            "yaxis": "y2",
            "colorscale": "RdBu",
            "reversescale": True,
            "zmin": -self.reach,
            "zmax": self.reach,
            "hovertemplate": "%{y} at timestep %{x}: rho %{z:.2f}<extra></extra>",
            "colorbar": {"thickness": 10, "len": 0.5, "y": 0.25, "outlinewidth": 0, "title": {"text": "rho"}},
        }


class EtaPlate(OverTime):
    """values: eta_t = softmax_t(-rho_t), what each timestep counts, of each layer; drawn in percent off equal, 1/T."""

    height = 2.6
    heading: ClassVar = ("layer", "role", "timestep", "eta", "% off equal")

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """A row a layer and timestep."""
        for row, off in zip(self._rows(self.values), self.off.ravel().tolist(), strict=True):
            yield *row, off

    @property
    def off(self) -> np.ndarray:
        """(layer, t): how much more or less than equally a timestep counts, in percent."""
        return 100 * (self.values * self.values.shape[1] - 1)

    def page(self) -> go.Figure:
        """A line a layer around the dotted line on which all timesteps would count the same."""
        equal = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0}
        figure_layout = layout(
            380,
            hovermode="closest",
            xaxis=axis("timestep t, in sampling order", **SAMPLING_ORDER),
            yaxis=axis("eta, % off equal", nticks=6),
            shapes=[equal | {"line": {"color": NEUTRAL, "width": 1.5, "dash": "dot"}}],
        )
        return go.Figure({"data": self._traces(self.off, " % off equal"), "layout": figure_layout}, skip_invalid=True)

    def draw(self, place: FigureBase) -> None:
        """The same for print."""
        axes = place.subplots()
        self._lines(axes, self.off)
        axes.axhline(0, color="black", linewidth=0.5, linestyle=":")
        axes.set(xlabel="timestep $t$, in sampling order", ylabel=r"$\eta_t$, % off $1/T$")
