"""The line beneath the bar: what the chosen model lacks, what that costs, how it is made; a button for the owner."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components.messages import in_words
from app.components.part import html_part
from app.services import preparing
from app.services.loading import ModelMissing, command
from app.services.shelf import entry, is_owner


def create_lacking() -> gr.HTML:
    """Render it; it follows the selection by itself."""
    return html_part(
        "lacking",
        {},
        scripts=("store",),
        apply_default_css=False,
        elem_id="lacking",
        server_functions=[lacking, prepare, cancel],
    )


def lacking(model: Any) -> dict[str, Any]:
    """What the script asks of a model: what is missing, what it costs, how it is made, how far that is."""
    try:
        name = entry(model).name
        found, job = preparing.lacking(name), preparing.current(name)
    except (ValueError, ModelMissing) as error:
        return {"problem": in_words(error)}
    return {
        "told": found.told,
        "command": command(name) if found.stages else "",
        "cost": duration(found.seconds) if found.stages and found.seconds is not None else "",
        "owner": is_owner() and bool(found.stages),
        "job": _told(job),
    }


def prepare(model: Any) -> dict[str, Any]:
    """The button was pressed: begin, for whoever owns the app."""
    try:
        return {"job": _told(preparing.begin(entry(model).name))}
    except ValueError as error:
        return {"problem": in_words(error)}


def cancel(model: Any) -> dict[str, Any]:
    """Cancel was pressed."""
    try:
        preparing.cancel(entry(model).name)
        return {}
    except ValueError as error:
        return {"problem": in_words(error)}


def duration(seconds: float) -> str:
    """A duration in words: "about 3 minutes here"."""
    if seconds < 1.5:
        return "about a second here"
    if seconds < 90:
        return f"about {round(seconds)} seconds here"
    if seconds < 5400:
        return f"about {round(seconds / 60)} minutes here"
    return f"about {seconds / 3600:.1f} hours here"


def _told(job: preparing.Job | None) -> dict[str, Any] | None:
    if job is None:
        return None
    return {"stage": job.stage, "percent": job.percent, "ended": job.ended}
