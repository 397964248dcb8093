"""A chart for print: the traces of a Plotly figure drawn by matplotlib, which needs no browser, as PNG, SVG or PDF."""

from __future__ import annotations

import io
import re
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.figures.export.arrays import plain, values

Format = Literal["png", "svg", "pdf"]
_MARKS = {
    "circle": "o",
    "circle-open": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-right": ">",
    "triangle-left": "<",
    "x": "x",
    "line-ns": "|",
    "line-ns-open": "|",
}
_DASHES = {"dash": "--", "dot": ":", "dashdot": "-."}


def chart_picture(figure: go.Figure | str, kind: Format, *, title: str = "", width: float = 9.0) -> bytes:
    """The chart as a file's bytes; `title` stands above it, `width` is in inches."""
    buffer = io.BytesIO()
    printed(figure, title, width).savefig(buffer, format=kind, dpi=150)
    return buffer.getvalue()


def printed(figure: go.Figure | str, title: str = "", width: float = 9.0) -> Figure:
    """The chart as a matplotlib figure: one axes for each pair of Plotly axes, in the same places."""
    traces, layout = plain(figure)
    sheet = Figure(figsize=(width, max(float(layout.get("height") or 340) / 96, 2.5)), layout="constrained")
    if title:
        sheet.suptitle(title, fontsize=11)
    pairs = list(dict.fromkeys((t.get("xaxis", "x"), t.get("yaxis", "y")) for t in traces)) or [("x", "y")]
    panels = _panels(sheet, pairs, layout)
    for trace in traces:
        _draw(panels[trace.get("xaxis", "x"), trace.get("yaxis", "y")], trace)
    for (x, y), axes in panels.items():
        _dress(axes, "x", layout.get(_key(x), {}))
        _dress(axes, "y", layout.get(_key(y), {}))
        if any(artist.get_label() and not str(artist.get_label()).startswith("_") for artist in _named(axes)):
            axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return sheet


def _named(axes: Axes) -> list[Any]:
    return [*axes.get_legend_handles_labels()[0]]


def _panels(sheet: Figure, pairs: list[tuple[str, str]], layout: dict[str, Any]) -> dict[tuple[str, str], Axes]:
    """Axes below each other in the order of their domains, which is all that the app's charts use."""

    def top(pair: tuple[str, str]) -> float:
        return -float((layout.get(_key(pair[1]), {}).get("domain") or (0, 1))[1])

    ordered = sorted(pairs, key=top)
    spans = [layout.get(_key(y), {}).get("domain") or (0, 1) for _, y in ordered]
    grid = sheet.add_gridspec(len(ordered), 1, height_ratios=[float(high) - float(low) for low, high in spans])
    return {pair: sheet.add_subplot(grid[row, 0]) for row, pair in enumerate(ordered)}


def _key(axis: str) -> str:
    return f"{axis[0]}axis{axis[1:]}"


def _draw(axes: Axes, trace: dict[str, Any]) -> None:
    if trace.get("visible") is False:
        return
    kind = trace.get("type", "scatter")
    if kind == "heatmap":
        x, y = values(trace, "x"), values(trace, "y")
        image = axes.pcolormesh(x, y, np.asarray(trace["z"], dtype=float), cmap="cividis", shading="nearest")
        axes.figure.colorbar(image, ax=axes)
    elif kind == "bar":
        _bars(axes, trace)
    else:
        _lines(axes, trace)


def _bars(axes: Axes, trace: dict[str, Any]) -> None:
    colours = _colours(trace.get("marker", {}).get("color"), len(values(trace, "x")))
    base = trace.get("base")
    bottom = 0 if base is None else base
    if trace.get("orientation") == "h":
        axes.barh(values(trace, "y"), values(trace, "x"), color=colours, left=bottom, label=_label(trace))
    else:
        axes.bar(values(trace, "x"), values(trace, "y"), color=colours, bottom=bottom, label=_label(trace))


def _lines(axes: Axes, trace: dict[str, Any]) -> None:
    """Lines, marks, intervals and an area, as the trace's mode says."""
    x, y = values(trace, "x"), values(trace, "y")
    y = [np.nan if value is None else value for value in y]
    x = [np.nan if value is None else value for value in x]
    mode = str(trace.get("mode") or "lines")
    line, marker = trace.get("line", {}), trace.get("marker", {})
    label, alpha = _label(trace), trace.get("opacity", 1.0)
    if "lines" in mode:
        dash = _DASHES.get(str(line.get("dash")), "-")
        drawn = "steps-mid" if str(line.get("shape", "")).startswith("hv") else "default"
        style = {"color": _colour(line.get("color")), "linestyle": dash, "drawstyle": drawn}
        axes.plot(x, y, linewidth=float(line.get("width", 1.5)), alpha=alpha, label=label, **style)
        label = "_"
        if trace.get("fill") == "tozeroy":
            axes.fill_between(x, y, alpha=0.3, color=_colour(trace.get("fillcolor") or line.get("color")))
    if "markers" in mode:
        symbols = marker.get("symbol", "circle")
        symbol = symbols if isinstance(symbols, str) else "circle"
        colours = _colours(marker.get("color", line.get("color")), len(x))
        axes.scatter(x, y, c=colours, marker=_MARKS.get(symbol, "o"), s=26, alpha=alpha, label=label, zorder=3)
    _intervals(axes, trace, x, y)


def _intervals(axes: Axes, trace: dict[str, Any], x: list[Any], y: list[Any]) -> None:
    for along in ("x", "y"):
        error = trace.get(f"error_{along}")
        if error and error.get("array") is not None:
            both: Any = np.array([error.get("arrayminus", error["array"]), error["array"]], dtype=float)
            x_error, y_error = (both, None) if along == "x" else (None, both)
            colour = _colour(error.get("color"))
            axes.errorbar(x, y, xerr=x_error, yerr=y_error, fmt="none", ecolor=colour, capsize=3, linewidth=1)


def _dress(axes: Axes, which: str, axis: dict[str, Any]) -> None:
    """Title, scale, ticks, range and direction of one axis."""
    title = axis.get("title") or {}
    text = str(title.get("text", "") if isinstance(title, dict) else title)
    axes.set(**{f"{which}label": re.sub(r"<[^>]+>", " ", text)})
    logarithmic = axis.get("type") == "log"
    if logarithmic:
        axes.set(**{f"{which}scale": "log"})
    if axis.get("tickvals") is not None:
        axes.set(**{f"{which}ticks": list(axis["tickvals"])})
        if axis.get("ticktext") is not None:
            axes.set(**{f"{which}ticklabels": [re.sub(r"<[^>]+>", " ", str(t)) for t in axis["ticktext"]]})
    if axis.get("range") is not None:
        ends = [float(end) for end in axis["range"]]
        axes.set(**{f"{which}lim": [10**end for end in ends] if logarithmic else ends})
    elif axis.get("autorange") == "reversed":
        axes.invert_xaxis() if which == "x" else axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    if axis.get("showgrid", True) is not False:
        axes.grid(True, axis=which, alpha=0.3)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(trace: dict[str, Any]) -> str:
    name = trace.get("name")
    return str(name) if name and trace.get("showlegend") is not False else "_"


def _colours(colour: Any, count: int) -> Any:
    return [_colour(c) for c in colour] if isinstance(colour, list | tuple | np.ndarray) else [_colour(colour)] * count


def _colour(colour: Any) -> Any:
    """A CSS colour as matplotlib takes it."""
    if not isinstance(colour, str):
        return "#7C8798"
    found = re.fullmatch(r"rgba?\(([^)]+)\)", colour)
    if not found:
        return colour
    red, green, blue, *alpha = (float(part) for part in found[1].split(","))
    return (red / 255, green / 255, blue / 255, *alpha)
