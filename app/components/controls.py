"""The controls that all tabs share: one selection, every view follows it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.services import models
from app.services.models import Outline
from app.state import BITS, FIELDS, LARGEST_SEED, LAST_TIMESTEP, MOST_STEPS, STRENGTHS, Selection, brief


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The shared controls, one for each field of `Selection` and named as it, and the outline of the explored model.

    `opened` is the event after the page's link has set the controls: a tab draws itself first with `opened.then(...)`.
    They are made unrendered: Compare renders class_id, seed, steps and guidance, the bar all others, unseen, for a
    person works with the bar itself. Every tab may listen to and set any of them.
    """

    outline: Outline
    model: gr.Dropdown
    layer: gr.Dropdown
    timestep: gr.Slider
    channel: gr.Number
    weight_bits: gr.Dropdown
    activation_bits: gr.Dropdown
    csb: gr.Checkbox
    ssc: gr.Checkbox
    strength: gr.Dropdown
    class_id: gr.Dropdown
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    opened: Dependency

    @property
    def inputs(self) -> list[gr.components.Component]:
        """All controls in the order that `Selection.from_controls` takes their values."""
        return [getattr(self, name) for name in FIELDS]

    def changed(self, *names: str) -> list[Any]:
        """The change events of the named controls, as triggers for `gr.on`; of all where none is named."""
        return [getattr(self, name).change for name in names or FIELDS]


def make_controls(page: gr.Blocks, outline: Outline) -> Shared:
    """The shared controls at their default values, unrendered; opening the page sets them to what its link asks for."""
    controls = _selection_controls(outline)
    notice = gr.Markdown(elem_id="link-notice")
    opened = page.load(
        open_link,
        None,
        [*(controls[name] for name in FIELDS), notice],
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )
    return Shared(outline=outline, opened=opened, **controls)


def open_link(request: gr.Request) -> list[Any]:
    """The controls' values that the page's address asks for, then what of it was ignored.

    Controls that stand as asked for are left alone: a visitor may have moved them before this answer comes.
    """
    selection, ignored = Selection.from_query(dict(request.query_params))
    selection, unknown = fit(selection, models.outline())
    told = [*ignored, *(message for name, message in unknown.items() if name in request.query_params)]
    notice = " ".join(f"Part of the link was ignored. {escape(message)}." for message in told)
    usual, _ = fit(Selection(), models.outline())
    asked = asdict(selection).items()
    return [*(value if value != getattr(usual, name) else gr.skip() for name, value in asked), notice]


def fit(selection: Selection, outline: Outline) -> tuple[Selection, dict[str, str]]:
    """The selection with a layer and a class that the model has, and by field what it had to give up."""
    unknown = {}
    if selection.model != model_name(outline):
        unknown["model"] = (
            f"model: expected {model_name(outline)}, which is explored here; got {brief(selection.model)}"
        )
        selection = replace(selection, model=model_name(outline))
    if selection.layer not in outline.layers:
        unknown["layer"] = f"layer: expected one of the model's, {outline.layers[0]} ...; got {brief(selection.layer)}"
        selection = replace(selection, layer=outline.layers[0])
    if selection.class_id >= len(outline.labels):
        unknown["class_id"] = f"class_id: expected 0 to {len(outline.labels) - 1}; got {selection.class_id}"
        selection = replace(selection, class_id=0)
    return selection, unknown


def model_name(outline: Outline) -> str:
    """The explored model's name, as `Selection` takes it: that of its folder."""
    return re.sub(r"[^\w.-]", "-", Path(outline.source).name)[:64] or "model"


def _selection_controls(outline: Outline) -> dict[str, Any]:
    """One control a field of `Selection`."""
    start, _ = fit(Selection(), outline)
    return dict(
        model=gr.Dropdown([start.model], value=start.model, label="Model", interactive=True, render=False),
        channel=gr.Number(start.channel, label="Channel", precision=0, interactive=True, render=False),
        layer=gr.Dropdown(outline.layers, value=start.layer, label="Layer", interactive=True, render=False),
        timestep=gr.Slider(0, LAST_TIMESTEP, start.timestep, step=1, label="Timestep", interactive=True, render=False),
        **_method_controls(start),
        **_picture_controls(outline, start),
    )


def _method_controls(start: Selection) -> dict[str, Any]:
    """How the model is quantized, and the salience dial."""
    bits = [(bits_name(count), count) for count in BITS]
    strengths = [(strength_name(count), count) for count in STRENGTHS]
    return {
        "csb": gr.Checkbox(start.csb, label="CSB", interactive=True, render=False),
        "ssc": gr.Checkbox(start.ssc, label="SSC", interactive=True, render=False),
        "weight_bits": gr.Dropdown(bits, value=start.weight_bits, label="Weights", interactive=True, render=False),
        "activation_bits": gr.Dropdown(
            bits, value=start.activation_bits, label="Activations", interactive=True, render=False
        ),
        "strength": gr.Dropdown(strengths, value=start.strength, label="Salience dial", interactive=True, render=False),
    }


def bits_name(bits: int) -> str:
    """A number of bits in words."""
    return f"{bits} bits" if bits < BITS[-1] else "float"


def strength_name(strength: int) -> str:
    """A position of the salience dial in words."""
    return "as trained" if strength == 1 else f"x {strength}, same function"


def _picture_controls(outline: Outline, start: Selection) -> dict[str, Any]:
    """The controls that choose a picture: class, seed, steps, guidance."""
    classes = [(name, i) for i, name in enumerate(outline.labels)]
    return {
        "class_id": gr.Dropdown(classes, value=start.class_id, label="Class", interactive=True, render=False),
        "seed": gr.Number(
            start.seed, label="Seed", minimum=0, maximum=LARGEST_SEED, precision=0, interactive=True, render=False
        ),
        "steps": gr.Slider(1, MOST_STEPS, start.steps, step=1, label="Steps", interactive=True, render=False),
        "guidance": gr.Slider(1.0, 20.0, start.guidance, step=0.5, label="Guidance", interactive=True, render=False),
    }
