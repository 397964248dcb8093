"""A finished comparison as one zip: pictures, difference maps, numbers and how they were made."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.figures.difference import difference_map
from app.figures.picture import png
from app.services.generation import Frame
from app.services.models import identity, outline
from app.services.request import Request, Variant
from app.services.shelf import entry
from app.tabs.compare_view import chart as drift_chart
from app.tabs.compare_view import drawn

if TYPE_CHECKING:
    from app.figures.export.picture import Format

_FORMATS: tuple[Format, ...] = ("png", "svg")


def write_zip(frame: Frame, gain: float, folder: Path) -> Path:
    """Write the zip of a finished frame into `folder`; its name tells class and seed."""
    from app.figures.export.picture import chart_picture  # with matplotlib, which the first page need not wait for

    request = frame.request
    label = re.sub(r"[^\w-]+", "-", drawn(request))[:40].strip("-")
    path = folder / f"ptq4dit-{request.model}-{label}-seed{request.seed}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for variant, picture in zip(request.contenders, frame.pictures or (), strict=True):
            archive.writestr(f"{_file(variant)}.png", png(picture))
            if not variant.is_float and frame.pictures:
                difference = difference_map(picture, frame.pictures[0], gain)
                archive.writestr(f"{_file(variant)}-difference.png", png(difference))
        archive.writestr("numbers.csv", _numbers(frame))
        archive.writestr("drift.csv", _drift(frame))
        for kind in _FORMATS:
            archive.writestr(
                f"drift.{kind}", chart_picture(drift_chart(frame), kind, title="Drift from full precision")
            )
        archive.writestr("settings.json", json.dumps(settings(request) | {"difference_gain": gain}, indent=1))
    return path


def settings(request: Request) -> dict[str, Any]:
    """How a comparison is made, as plain JSON."""
    asked = asdict(request)
    for name in ("class_id", "sampler") if outline(request.model).prompted else ("prompt",):
        del asked[name]  # which does not count for such a model
    return {
        **asked,
        "drawn": drawn(request),
        "source": entry(request.model).told,
        "model_fingerprint": identity(request.model),
        "backends": {variant.name: variant.backend for variant in request.variants},
    }


def _file(variant: Variant) -> str:
    balancing = variant.balancing.lower().replace(" ", "-").replace("+", "-")
    return variant.label if variant.is_float else f"{variant.label}-{balancing}"


def _numbers(frame: Frame) -> str:
    heading = ("variant", "backend", "psnr_db", "ssim", "milliseconds_a_step", "megabytes")
    costs: list[tuple[Any, Any]]
    costs = list(zip(frame.milliseconds, frame.megabytes, strict=True)) or [("", "")] * len(frame.request.contenders)
    scores = zip(frame.request.variants, frame.psnr, frame.ssim, costs[1:], strict=True)
    first = (frame.request.contenders[0].name, "float", "", "", *costs[0])
    return _csv([heading, first, *((v.name, v.backend, psnr, ssim, *cost) for v, psnr, ssim, cost in scores)])


def _drift(frame: Frame) -> str:
    heading = ("step", "timestep", *(variant.name for variant in frame.request.variants))
    steps = range(1, len(frame.timesteps) + 1)
    return _csv([heading, *zip(steps, frame.timesteps, *frame.drift, strict=True)])


def _csv(rows: list[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()
