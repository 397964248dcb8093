"""The data of a chart as rows: one a point, with the name of its series."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go

from app.figures.export.arrays import plain, values

HEADING = ("series", "x", "y", "value", "low", "high")


def chart_rows(figure: go.Figure | str) -> Iterator[tuple[Any, ...]]:
    """`HEADING`, then a row for each point: a heat map's cell has a value, a dot with an interval low and high."""
    yield HEADING
    traces, _ = plain(figure)
    for number, trace in enumerate(traces, 1):
        name = trace.get("name") or f"series {number}"
        rows = _cells(trace) if trace.get("type") == "heatmap" else _points(trace)
        yield from ((name, *(_written(value) for value in row)) for row in rows)


def _cells(trace: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for y, row in zip(values(trace, "y") or range(len(trace["z"])), trace["z"], strict=False):
        for x, value in zip(values(trace, "x") or range(len(row)), row, strict=False):
            yield x, y, value, "", ""


def _points(trace: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    along = "x" if "error_x" in trace else "y"
    named = (trace.get("meta") or {}).get("x")  # what dots that stand aside of their place belong to
    points = list(zip(named or values(trace, "x"), values(trace, "y"), strict=False))
    error = trace.get("error_x") or trace.get("error_y") or {}
    more = list(error.get("array") or [0] * len(points))
    less = list(error.get("arrayminus") or more)
    for (x, y), up, down in zip(points, more, less, strict=True):
        middle = x if along == "x" else y
        yield (x, y, "", middle - down, middle + up) if up or down else (x, y, "", "", "")


def _written(value: Any) -> Any:
    if value is None:
        return ""
    return f"{float(value):.7g}" if isinstance(value, float) or hasattr(value, "dtype") else value
