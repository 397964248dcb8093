"""What the Compare tab shows: frames of a comparison in, values of its parts out."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from app.figures.difference import difference_map
from app.figures.drift import drift
from app.figures.picture import data_uri
from app.services.generation import Frame
from app.services.models import outline
from app.services.request import Request, Variant

COLUMNS = ["Against full precision", "PSNR, dB", "SSIM", "Drift"]


def progress(frame: Frame) -> dict[str, Any]:
    """How far the run is, in words and per cent."""
    most = frame.request.steps
    note = f"{frame.note}, {frame.seconds:.1f} s" if frame.seconds else frame.note
    return {"step": frame.step, "most": most, "percent": round(100 * frame.step / most), "note": note}


def idle(request: Request, note: str = "Press Generate") -> dict[str, Any]:
    """The progress part while nothing runs."""
    return {"step": 0, "most": request.steps, "percent": 0, "note": note}


def cards(frame: Frame, gain: float) -> dict[str, Any]:
    """A card for each contender: its picture, its name, where it differs from full precision, its scores."""
    shown = [_card(frame, index, gain) for index in range(len(frame.request.contenders))]
    return {"label": f"Pictures of {subject(frame.request)}", "cards": shown}


def subject(request: Request) -> str:
    """The class and seed in words, e.g. "torus, seed 3"."""
    labels, class_id = outline().labels, request.class_id
    name = labels[class_id] if class_id < len(labels) else f"class {class_id}"  # refused once the model is there
    return f"{name}, seed {request.seed}"


def _card(frame: Frame, index: int, gain: float) -> dict[str, Any]:
    variant = frame.request.contenders[index]
    card: dict[str, Any] = {"title": variant.label, "detail": _detail(variant, frame.request.strength), "remark": ""}
    if index == 0:
        card["remark"] = "the reference"
    if frame.pictures is None:
        return card
    picture, reference = frame.pictures[index], frame.pictures[0]
    card |= {"src": data_uri(picture), "alt": f"{subject(frame.request)}, {variant.name}"}
    if index and frame.finished:
        card |= {
            "difference": data_uri(difference_map(picture, reference, gain), enlarge=1),
            "difference_alt": f"Where {variant.name} differs from full precision, times {gain:g}",
            "psnr": f"{frame.psnr[index - 1]:.1f}",
            "ssim": f"{frame.ssim[index - 1]:.3f}",
        }
    return card


def _detail(variant: Variant, strength: int) -> str:
    dial = "" if strength == 1 else f", salience x {strength}"
    return f"full precision{dial}" if variant.is_float else f"simulated, {variant.balancing}{dial}"


def chart(frame: Frame) -> go.Figure:
    """The drift of each variant so far."""
    names = [variant.name for variant in frame.request.variants]
    values = frame.drift or [()] * len(names)
    return drift(dict(zip(names, values, strict=True)), frame.request.steps)


def numbers(frame: Frame) -> dict[str, Any]:
    """A row for each variant: PSNR, SSIM, drift after the last step; none before the run is finished."""
    columns = zip(frame.request.variants, frame.psnr, frame.ssim, frame.drift, strict=False)
    rows = [
        {
            "title": variant.label,
            "detail": _detail(variant, frame.request.strength),
            "psnr": f"{psnr:.2f}",
            "ssim": f"{ssim:.4f}",
            "drift": f"{100 * drift[-1]:.3g} %",
        }
        for variant, psnr, ssim, drift in columns
    ]
    return {"columns": COLUMNS, "rows": rows}
