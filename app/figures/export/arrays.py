"""A Plotly figure as plain data: traces and layout with numpy arrays, however the figure was written."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import plotly.graph_objects as go


def plain(figure: go.Figure | str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Traces and layout of a figure, or of its JSON; typed arrays decoded."""
    content = json.loads(figure) if isinstance(figure, str) else figure.to_plotly_json()
    return [_decoded(trace) for trace in content["data"]], _decoded(content["layout"])


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if {"dtype", "bdata"} <= value.keys():
            return _array(value)
        return {key: _decoded(item) for key, item in value.items()}
    return value


def _array(value: dict[str, Any]) -> np.ndarray:
    array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
    shape = value.get("shape")
    return array.reshape([int(n) for n in str(shape).split(",")]) if shape is not None else array


def values(trace: dict[str, Any], axis: str) -> list[Any]:
    """The trace's values along "x" or "y"; counted from 0 where it gives none."""
    found = trace.get(axis)
    if found is not None:
        return list(found)
    other = trace.get("y" if axis == "x" else "x")
    return list(range(len(other))) if other is not None else []
