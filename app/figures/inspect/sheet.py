"""All charts of one layer on one sheet, for print: matplotlib, without pyplot's global state."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.figures.inspect.error import COLOURS, NAMES
from app.figures.style import ACTIVATION, BALANCED, NEUTRAL, SPEARMAN, WEIGHT


def sheet_figure(
    *,
    title: str,
    activation: np.ndarray,
    weight: np.ndarray,
    balanced: tuple[np.ndarray, np.ndarray] | None,
    timesteps: np.ndarray,
    rho: np.ndarray,
    weights: np.ndarray,
    salience: np.ndarray,
    errors: Mapping[str, float],
    errors_over_time: Mapping[str, np.ndarray],
    timestep: float,
) -> Figure:
    """The charts of Inspect on one sheet.

    activation, weight (channel,) and the same two balanced, or None; timesteps, rho, weights (t,);
    salience (t, channel); errors and errors_over_time (t,) by variant as fractions; timestep: the one that is marked.
    """
    figure = Figure(figsize=(12, 11), layout="constrained")
    figure.suptitle(title, fontsize=13)
    grid = figure.add_gridspec(4, 2, height_ratios=[1, 1, 1.3, 1.3])
    _channels(figure.add_subplot(grid[0, :]), "activation", activation, None if balanced is None else balanced[0])
    _channels(figure.add_subplot(grid[1, :]), "weight", weight, None if balanced is None else balanced[1])
    _timesteps(figure.add_subplot(grid[2, 0]), timesteps, rho, weights, timestep)
    _heatmap(figure, figure.add_subplot(grid[2, 1]), timesteps, salience)
    _complementarity(figure.add_subplot(grid[3, 0]), activation, weight, balanced)
    _errors(figure.add_subplot(grid[3, 1]), timesteps, errors, errors_over_time)
    return figure


def _channels(axes: Axes, name: str, before: np.ndarray, after: np.ndarray | None) -> None:
    """Salience of every channel, before (filled) and after balancing (outlined)."""
    edges = np.arange(len(before) + 1) - 0.5
    colour = ACTIVATION if name == "activation" else WEIGHT
    axes.stairs(before, edges, fill=True, color=colour, alpha=0.5, label=name)
    if after is not None:
        axes.stairs(after, edges, color=BALANCED, label="balanced")
    axes.set_ylabel(f"{name} salience")
    axes.margins(x=0)
    axes.legend(loc="upper right", frameon=False)
    if name == "weight":
        axes.invert_yaxis()
        axes.set_xlabel("input channel")


def _timesteps(axes: Axes, timesteps: np.ndarray, rho: np.ndarray, weights: np.ndarray, timestep: float) -> None:
    """rho, and on a second axis the weight of each timestep."""
    axes.plot(timesteps, rho, color=SPEARMAN, marker="o", markersize=3)
    axes.axvline(timestep, color=NEUTRAL, linestyle=":")
    axes.set(xlabel="timestep", ylabel="rho", ylim=(-1.05, 1.05))
    axes.invert_xaxis()
    beside = axes.twinx()
    beside.bar(timesteps, weights, width=0.6 * abs(np.diff(timesteps).mean()), color=BALANCED, alpha=0.35)
    beside.set(ylabel="weight of the timestep", ylim=(0, 4 * weights.max()))


def _heatmap(figure: Figure, axes: Axes, timesteps: np.ndarray, salience: np.ndarray) -> None:
    """Activation salience of every channel at every timestep."""
    shown = np.log10(np.maximum(salience, 1e-6))
    image = axes.pcolormesh(np.arange(salience.shape[1]), timesteps, shown, cmap="cividis", shading="nearest")
    axes.set(xlabel="input channel", ylabel="timestep")
    figure.colorbar(image, ax=axes, label="log10 activation salience")


def _complementarity(
    axes: Axes, activation: np.ndarray, weight: np.ndarray, balanced: tuple[np.ndarray, np.ndarray] | None
) -> None:
    """Activation against weight salience, one dot a channel."""
    axes.loglog(activation, weight, ".", color=ACTIVATION, alpha=0.6, label="before")
    if balanced is not None:
        axes.loglog(*balanced, ".", color=BALANCED, alpha=0.6, label="balanced")
    axes.set(xlabel="activation salience", ylabel="weight salience")
    axes.legend(frameon=False)


def _errors(
    axes: Axes, timesteps: np.ndarray, errors: Mapping[str, float], over_time: Mapping[str, np.ndarray]
) -> None:
    """The error over the timesteps; the overall one in the legend."""
    for key, values in over_time.items():
        label = f"{NAMES[key]}, {100 * errors[key]:.3g}% overall"
        axes.plot(timesteps, 100 * values, color=COLOURS[key], marker="o", markersize=3, label=label)
    axes.set(xlabel="timestep", ylabel="error, % of the output", ylim=(0, None))
    axes.invert_xaxis()
    axes.legend(frameon=False)
