"""The charts of one layer for print, as the reader looks at them: all on one sheet or one by itself; by matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.figures.inspect.content import Content
from app.figures.inspect.error import COLOURS, NAMES
from app.figures.style import ACTIVATION, BALANCED, NEUTRAL, SPEARMAN, WEIGHT

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

QUIET: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 0.8, "alpha": 0.8}
ORDER = "timestep, in sampling order"


def sheet_figure(content: Content, chart: str = "all") -> Figure:
    """One chart of `CHARTS`, or "all" of them on one sheet."""
    if chart != "all":
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        figure.suptitle(content.title, fontsize=10, wrap=True)
        CHARTS[chart](figure, content)
        return figure
    figure = Figure(figsize=(12, 14), layout="constrained")
    figure.suptitle(content.title, fontsize=12, wrap=True)
    rows = figure.subfigures(4, 1, squeeze=False, height_ratios=[2, 1.5, 1.4, 1])[:, 0]
    channels, time, effect, errors = rows
    draw_channels(channels, content)
    for row, pair in ((time, (draw_time, draw_heatmap)), (effect, (draw_pairs, draw_errors))):
        for place, draw in zip(row.subfigures(1, 2), pair, strict=True):
            draw(place, content)
    draw_channel_errors(errors, content)
    return figure


def draw_channels(place: FigureBase, content: Content) -> None:
    """Salience of the channels in their order, activation above and weight beneath, before and after balancing."""
    upper, lower = place.subplots(2, 1, sharex=True)
    _side(upper, content, 0, "activation", ACTIVATION)
    _side(lower, content, 1, "weight", WEIGHT)
    lower.invert_yaxis()
    _numbered(lower, content.order)
    _legend(upper, 4)


def _side(axes: Axes, content: Content, side: int, name: str, colour: str) -> None:
    order, log = content.order, content.scale == "log"
    edges = np.arange(len(order) + 1) - 0.5

    def shown(values: np.ndarray) -> np.ndarray:
        return (values / max(float(np.median(values)), 1e-12) if content.scale == "median" else values)[order]

    drawn: list[tuple[np.ndarray, dict[str, Any]]] = []
    alone = content.balanced is None
    if alone or content.stage != "after":
        before = shown((content.activation, content.weight)[side])
        drawn.append((before, {"fill": True, "color": colour, "alpha": 0.8 if alone else 0.55, "label": name}))
        drawn.append((before, {"color": colour, "linewidth": 0.8}))
    if content.balanced is not None and content.stage != "before":
        drawn.append((shown(content.balanced[side]), {"color": BALANCED, "linewidth": 1.4, "label": "balanced"}))
    if content.beside is not None:
        quiet = shown((content.beside.activation, content.beside.weight)[side])
        drawn.append((quiet, {"label": f"reference: {content.beside.name}", **QUIET}))
    floor = max(min(float(values.min()) for values, _ in drawn), 1e-6) / 1.3 if log else 0.0
    for values, style in drawn:
        axes.stairs(values, edges, baseline=None if style.get("linestyle") else floor, **style)
    axes.set(
        ylabel=f"{name} salience{', x median' if content.scale == 'median' else ''}", yscale="log" if log else "linear"
    )
    axes.set_xlim(edges[0], edges[-1])
    _pinned(axes, content)


def draw_time(place: FigureBase, content: Content) -> None:
    """rho above, and beneath what each timestep counts."""
    upper, lower = place.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    upper.plot(content.timesteps, content.rho, color=SPEARMAN, marker="o", markersize=3, label="rho")
    if content.rho_balanced is not None:
        upper.plot(content.timesteps, content.rho_balanced, color=BALANCED, marker="o", markersize=3, label="balanced")
    width = 0.7 * float(np.abs(np.diff(content.timesteps)).min()) if len(content.timesteps) > 1 else 1.0
    lower.bar(content.timesteps, content.weights, width=width, color=BALANCED, alpha=0.6)
    if content.quiet is not None:
        upper.plot(content.quiet.timesteps, content.quiet.rho, label=f"reference: {content.quiet.name}", **QUIET)
        lower.plot(content.quiet.timesteps, content.quiet.weights, **QUIET)
    for axes in (upper, lower):
        axes.axvline(content.timestep, color=NEUTRAL, linestyle=":")
    upper.set(ylabel="rho", ylim=(-1.05, 1.05))
    lower.set(xlabel=ORDER, ylabel="eta")
    lower.invert_xaxis()
    _legend(upper)


def draw_heatmap(place: FigureBase, content: Content) -> None:
    """Activation salience of every channel, in its place, at every timestep."""
    axes = place.subplots()
    shown = np.log10(np.maximum(content.salience[:, content.order], 1e-6))
    image = axes.pcolormesh(np.arange(shown.shape[1]), content.timesteps, shown, cmap="cividis", shading="nearest")
    axes.set_ylabel("timestep")
    _numbered(axes, content.order)
    place.colorbar(image, ax=axes, label="log10 activation salience")


def draw_pairs(place: FigureBase, content: Content) -> None:
    """Activation against weight salience, one dot a channel."""
    axes = place.subplots()
    if content.quiet is not None:
        axes.loglog(
            content.quiet.activation,
            content.quiet.weight,
            ".",
            color="black",
            alpha=0.45,
            label=f"reference: {content.quiet.name}",
        )
    j = content.order
    axes.loglog(content.activation[j], content.weight[j], ".", color=ACTIVATION, alpha=0.8, label="before")
    if content.balanced is not None:
        activation, weight = content.balanced
        axes.loglog(activation[j], weight[j], ".", color=BALANCED, alpha=0.8, label="balanced")
    axes.set(xlabel="activation salience s(X)", ylabel="weight salience s(W)")
    _legend(axes)


def draw_errors(place: FigureBase, content: Content) -> None:
    """The error over the timesteps; the overall one in the legend."""
    axes = place.subplots()
    for key, values in content.errors_over_time.items():
        label = f"{NAMES[key]}, {100 * content.errors[key]:.3g}% overall"
        axes.plot(content.timesteps, 100 * values, color=COLOURS[key], marker="o", markersize=3, label=label)
    if content.quiet is not None:
        axes.plot(
            content.quiet.timesteps, 100 * content.quiet.errors, label=f"reference: {content.quiet.name}", **QUIET
        )
    axes.axvline(content.timestep, color=NEUTRAL, linestyle=":")
    axes.set(xlabel=ORDER, ylabel="error, % of the output", ylim=(0, None))
    axes.invert_xaxis()
    _legend(axes)


def draw_channel_errors(place: FigureBase, content: Content) -> None:
    """The error that rounding makes in each channel, in their order."""
    axes = place.subplots()
    edges = np.arange(len(content.order) + 1) - 0.5
    for key, values in content.channel_errors.items():
        axes.stairs(100 * values[content.order], edges, color=COLOURS[key], label=NAMES[key])
    if content.beside is not None:
        quiet = 100 * content.beside.channel_errors[content.order]
        axes.stairs(quiet, edges, baseline=None, label=f"reference: {content.beside.name}", **QUIET)
    axes.set(ylabel="error in the channel,\n% of the output", ylim=(0, None), xlim=(edges[0], edges[-1]))
    _numbered(axes, content.order)
    _pinned(axes, content)
    _legend(axes, 4)


def _numbered(axes: Axes, order: np.ndarray) -> None:
    """Channel numbers where the channels stand, as many as can be read."""
    places = np.arange(0, len(order), max(1, len(order) // 16))
    axes.set_xticks(places, [str(order[i]) for i in places])
    axes.set_xlabel("input channel")


def _pinned(axes: Axes, content: Content) -> None:
    for i in np.flatnonzero(content.order == content.channel).tolist():
        axes.axvspan(i - 0.5, i + 0.5, color="black", alpha=0.15)


def _legend(axes: Axes, columns: int = 2) -> None:
    """Above the data, never over them."""
    axes.legend(frameon=False, fontsize=8, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


CHARTS: dict[str, Callable[[FigureBase, Content], None]] = {
    "channels": draw_channels,
    "time": draw_time,
    "heatmap": draw_heatmap,
    "pairs": draw_pairs,
    "errors": draw_errors,
    "channel-errors": draw_channel_errors,
}
