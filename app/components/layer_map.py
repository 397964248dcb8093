"""The layer map: a grid of block by role, coloured by a measure, chosen from by click or arrow keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
import numpy as np

from app.components.part import html_part
from app.figures.style import heat_colours
from app.state import ROLES


def layer_map(value: dict[str, Any]) -> gr.HTML:
    """The part. Its `select` event carries the chosen layer: `def handler(event: gr.EventData): event.layer`."""
    return html_part("layer_map", value, apply_default_css=False, elem_id="layer-map")


def map_value(measure: str, numbers: Mapping[str, float], chosen: str) -> dict[str, Any]:
    """What the part shows.

    measure: the words for what is measured; numbers: one for each layer named "blocks.<i>.<role>", nan where there is
    none; chosen: the chosen layer. Colours span the finite numbers.
    """
    finite = [number for number in numbers.values() if np.isfinite(number)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    blocks = sorted({int(layer.split(".")[1]) for layer in numbers})
    rows = []
    for row, role in enumerate(ROLES):
        names = [f"blocks.{block}.{role}" for block in blocks]
        cells = [
            _cell(name, numbers[name], (low, high), chosen, measure) | {"row": row, "column": column}
            for column, name in enumerate(names)
        ]
        rows.append({"role": role, "cells": cells})
    stops = ", ".join(heat_colours(i / 6)[0] for i in range(7))
    return {
        "measure": measure,
        "columns": blocks,
        "rows": rows,
        "low": brief(low) if finite else "",
        "high": brief(high) if finite else "",
        "ramp": f"linear-gradient(90deg, {stops})",
    }


def brief(number: float) -> str:
    """A number short enough for a cell: two or three significant digits, a dash for nan."""
    if not np.isfinite(number):
        return "-"
    if abs(number) >= 9.95:
        return f"{number:.0f}"
    return f"{number:.1f}" if abs(number) >= 0.995 else f"{number:.2f}"


def _cell(name: str, number: float, span: tuple[float, float], chosen: str, measure: str) -> dict[str, Any]:
    """One cell of the grid."""
    low, high = span
    known = bool(np.isfinite(number))
    fill, ink = (
        heat_colours((number - low) / (high - low) if high > low else 0.5) if known else ("transparent", "inherit")
    )
    return {
        "layer": name,
        "text": brief(number),
        "label": f"{name}, {measure}: {brief(number) if known else 'none'}",
        "fill": fill,
        "ink": ink,
        "selected": "true" if name == chosen else "false",
        "tabindex": "0" if name == chosen else "-1",
    }
