"""What the live pair of the Methods tab shows: frames in, values of its parts out."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from app.figures.drift import drift
from app.services.generation import Frame
from app.tabs import compare_view


def cards(frame: Frame, titles: list[str]) -> dict[str, Any]:
    """Cards as Compare shows them, each named after its method."""
    value = compare_view.cards(frame, gain=8)
    for card, title in zip(value["cards"][1:], titles, strict=False):
        card["title"] = title
    return value


def numbers(frame: Frame, titles: list[str]) -> dict[str, Any]:
    """A row for each method: distance to full precision, and what it costs."""
    label = "One picture against full precision"
    columns = [label, "PSNR, dB", "SSIM", "drift", "ms a step", "MB on disk"]
    rows = [
        {
            "title": title,
            "detail": f"{variant.label}, {variant.backend}",
            "state": "other",
            "cells": [f"{psnr:.2f}", f"{ssim:.4f}", f"{100 * strayed[-1]:.3g} %", f"{ms:.1f}", f"{megabytes:.2f}"],
        }
        for title, variant, psnr, ssim, strayed, ms, megabytes in zip(
            titles,
            frame.request.variants,
            frame.psnr,
            frame.ssim,
            frame.drift,
            frame.milliseconds[1:],
            frame.megabytes[1:],
            strict=False,
        )
    ]
    return {"label": label, "columns": columns, "rows": rows}


def chart(frame: Frame, titles: list[str]) -> go.Figure:
    """The drift of both methods so far."""
    values = frame.drift or [()] * len(titles)
    return drift(dict(zip(titles, values, strict=True)), frame.request.steps)
