"""Lines over the timesteps of all layers at once: a colour a role, the chosen layer in bold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.figures.paper.plate import coloured

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def line_traces(
    layers: Sequence[str], roles: Sequence[str], timesteps: np.ndarray, values: np.ndarray, chosen: str, unit: str
) -> list[dict[str, Any]]:
    """A trace a role, in which its layers' lines (layer, t) follow each other with gaps, then the chosen layer's."""
    traces = [
        _role(role, colour, [i for i, one in enumerate(roles) if one == role], layers, timesteps, values, unit)
        for role, colour in coloured(roles).items()
    ]
    if chosen in layers:
        traces.append(
            _chosen(chosen, coloured(roles)[roles[layers.index(chosen)]], timesteps, values[layers.index(chosen)], unit)
        )
    return traces


def draw_lines(
    axes: Axes, layers: Sequence[str], roles: Sequence[str], timesteps: np.ndarray, values: np.ndarray, chosen: str
) -> None:
    """The same for print."""
    named: set[str] = set()
    colours = coloured(roles)
    for name, role, row in zip(layers, roles, values, strict=True):
        label = f"_{name}" if role in named else role
        named.add(role)
        axes.plot(timesteps, row, color=colours[role], linewidth=0.6, alpha=0.6, label=label)
    if chosen in layers:
        i = layers.index(chosen)
        axes.plot(timesteps, values[i], color=colours[roles[i]], linewidth=1.8, label=chosen)
    axes.set_xlim(float(timesteps.max()), float(timesteps.min()))
    axes.legend(frameon=False, fontsize=6, ncols=min(len(named) + 1, 5), loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _role(
    role: str,
    colour: str,
    members: list[int],
    layers: Sequence[str],
    timesteps: np.ndarray,
    values: np.ndarray,
    unit: str,
) -> dict[str, Any]:
    """One trace for the lines of a role's layers: a browser draws ten of them sooner than a hundred."""
    gap = np.array([np.nan])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": role,
        "x": np.concatenate([part for _ in members for part in (timesteps.astype(float), gap)]),
        "y": np.concatenate([part for i in members for part in (values[i], gap)]),
        "customdata": [layers[i] for i in members for _ in range(len(timesteps) + 1)],
        "line": {"color": colour, "width": 1},
        "opacity": 0.6,
        "hovertemplate": f"%{{customdata}} at timestep %{{x}}: %{{y:.3g}}{unit}<extra></extra>",
    }


def _chosen(name: str, colour: str, timesteps: np.ndarray, row: np.ndarray, unit: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": timesteps,
        "y": row,
        "line": {"color": colour, "width": 3.5},
        "marker": {"size": 5},
        "hovertemplate": f"{name} at timestep %{{x}}: %{{y:.3g}}{unit}<extra></extra>",
    }
