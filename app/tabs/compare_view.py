"""What the Compare tab shows: frames of a comparison in, values of its parts out."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from app.balancing import SWITCHES
from app.content.grades import grade
from app.figures.difference import difference_map
from app.figures.drift import drift
from app.figures.picture import data_uri
from app.services.generation import Frame
from app.services.models import outline
from app.services.request import Request, Variant
from app.services.sources import hardware_words
from app.services.stored_speed import load_speed

NOTHING_ASKED: dict[str, Any] = {"asked": {}}
COLUMNS = ["Against full precision", "PSNR, dB", "SSIM", "drift", "ms a step", "MB on disk"]


def progress(frame: Frame) -> dict[str, Any]:
    """How far the run is, in words and per cent."""
    most = frame.request.steps
    note = f"{frame.note}, {frame.seconds:.1f} s" if frame.seconds else frame.note
    return {"step": frame.step, "most": most, "percent": round(100 * frame.step / most), "note": note}


def idle(steps: int, note: str = "Press Generate") -> dict[str, Any]:
    """The progress part while nothing runs, and nothing is there that could be out of date."""
    return {"step": 0, "most": steps, "percent": 0, "note": note, **NOTHING_ASKED}


def made_for(request: Request, **own: Any) -> dict[str, Any]:
    """What the page has to say, by name, for a comparison to be of what it asks; `own` is what the tab's controls say.

    The parts that show it are given this too, and say so by themselves when the page says something else.
    """
    drawn = ("prompt",) if outline(request.model).prompted else ("class_id", "sampler")
    names = ("model", "seed", "steps", "guidance", "strength", *drawn)
    return {"asked": {name: getattr(request, name) for name in names} | own}


def cards(frame: Frame, gain: float) -> dict[str, Any]:
    """A card for each contender: its picture, its name, where it differs from full precision, its scores."""
    shown = [_card(frame, index, gain) for index in range(len(frame.request.contenders))]
    about = f"{frame.request.model}: {subject(frame.request)}"
    return {"label": about, "about": about if frame.pictures else "", "cards": shown}


def subject(request: Request) -> str:
    """The class or prompt and the seed in words, e.g. "torus, seed 3"."""
    return f"{drawn(request)}, seed {request.seed}"


def drawn(request: Request) -> str:
    """What a picture shows, in words."""
    about, class_id = outline(request.model), request.class_id
    if about.prompted:
        return request.prompt
    return about.labels[class_id] if class_id < len(about.labels) else f"class {class_id}"  # refused once it is loaded


def _card(frame: Frame, index: int, gain: float) -> dict[str, Any]:
    variant = frame.request.contenders[index]
    card: dict[str, Any] = {"title": variant.label, "detail": _detail(variant, frame.request.strength), "remark": ""}
    card["state"] = "breaks" if index == second_row(frame.request) else "follows"
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
            "word": grade(frame.psnr[index - 1]).word,
            "ssim": f"{frame.ssim[index - 1]:.3f}",
        }
    return card


def _detail(variant: Variant, strength: int) -> str:
    dial = "" if strength == 1 else f", salience x {strength}"
    return f"full precision{dial}" if variant.is_float else f"{variant.backend}, {variant.balancing}{dial}"


def chart(frame: Frame) -> go.Figure:
    """The drift of each variant so far."""
    names = [variant.name for variant in frame.request.variants]
    values = frame.drift or [()] * len(names)
    return drift(dict(zip(names, values, strict=True)), frame.request.steps)


def empty_chart(steps: int) -> go.Figure:
    """The chart of the drift before there is any."""
    return drift({}, steps)


def numbers(frame: Frame) -> dict[str, Any]:
    """A row for each contender: PSNR, SSIM, drift after the last step, and what it costs; none before the end."""
    if not frame.finished:
        return {"label": COLUMNS[0], "columns": COLUMNS, "rows": []}
    costs = [[f"{ms:.1f}", f"{size:.2f}"] for ms, size in zip(frame.milliseconds, frame.megabytes, strict=False)] or [
        ["-", "-"]
    ] * len(frame.request.contenders)
    scores = [["-", "-", "-"]] + [
        [f"{psnr:.2f}", f"{ssim:.4f}", f"{100 * strayed[-1]:.3g} %"]
        for psnr, ssim, strayed in zip(frame.psnr, frame.ssim, frame.drift, strict=True)
    ]
    rows = [
        {
            "title": variant.label,
            "detail": _detail(variant, frame.request.strength),
            "state": "other",
            "cells": [*score, *cost],
        }
        for variant, score, cost in zip(frame.request.contenders, scores, costs, strict=True)
    ]
    return {"label": COLUMNS[0], "columns": COLUMNS, "rows": rows}


def second_row(request: Request) -> int | None:
    """Which contender begins the second row: none, CSB and CSB + SSC at the same bits stand there by themselves."""
    for index in range(2, len(request.contenders) - 2):
        three = request.contenders[index : index + 3]
        same = len({(v.label, v.tokens) for v in three}) == 1
        if [(v.csb, v.ssc) for v in three] == list(SWITCHES.values()) and same:
            return index
    return None


def wipe(frame: Frame, index: int) -> dict[str, Any]:
    """Full precision on the left, a variant on the right of one picture; `index` counts the variants."""
    index = min(max(index, 0), len(frame.request.variants) - 1)
    variant = frame.request.variants[index]
    reference, picture = (frame.pictures or ())[0], (frame.pictures or ())[index + 1]
    return {
        "left": {"src": data_uri(reference), "name": "FP32", "alt": f"{subject(frame.request)}, full precision"},
        "right": {
            "src": data_uri(picture),
            "name": f"{variant.label}, {variant.backend}",
            "alt": f"The same {subject(frame.request)}, {variant.name}",
        },
    }


def wiped(request: Request) -> list[tuple[str, int]]:
    """The variants that the slider can hold against full precision, as choices."""
    return [(variant.name, index) for index, variant in enumerate(request.variants)]


def stored_speed(model: str) -> dict[str, Any]:
    """Speed, memory and bytes of a model, measured on a quiet machine. Raises ValueError where they were not."""
    timings, made = load_speed(model)
    source = f"{made.get('command')}, commit {made.get('commit')}, {hardware_words(made.get('hardware'))}"
    rows = [
        {
            "title": timing.name,
            "detail": f"{timing.label}, {timing.execution}".strip(", "),
            "state": "other",
            "cells": [
                _number(timing.milliseconds, ".1f"),
                _number(timing.speedup, ".2f"),
                _number(timing.resident, ".0f"),
                _number(timing.disk, ".2f"),
            ],
        }
        for timing in timings
    ]
    columns = ["Version", "ms a forward pass", "times as fast as float32", "MB resident", "MB on disk"]
    return {"label": "Speed, memory and bytes", "columns": columns, "rows": rows, "source": f"Measured by {source}."}


def _number(value: float | None, written: str) -> str:
    return "-" if value is None else format(value, written)
