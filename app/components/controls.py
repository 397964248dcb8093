"""The controls that all tabs share: one selection, every view follows it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.services import models
from app.services.models import Outline
from app.state import BITS, FIELDS, LARGEST_SEED, LAST_TIMESTEP, MOST_STEPS, STRENGTHS, Selection


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The shared controls, one for each field of `Selection` and named as it, and the outline of the explored model.

    `opened` is the event after the page's link has set the controls: a tab draws itself first with `opened.then(...)`.
    They are made unrendered: the bar renders csb, ssc, weight_bits, activation_bits and strength; Inspect renders layer
    and timestep; Compare renders class_id, seed, steps and guidance. Every tab may listen to and set any of them.
    """

    outline: Outline
    layer: gr.Dropdown
    timestep: gr.Slider
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
    opened = page.load(
        open_link, None, [controls[name] for name in FIELDS], api_visibility="private", show_progress="hidden"
    )
    return Shared(outline=outline, opened=opened, **controls)


def open_link(request: gr.Request) -> list[Any]:
    """The controls' values that the page's address asks for; says what of it was ignored."""
    selection, ignored = Selection.from_query(dict(request.query_params))
    selection, unknown = fit(selection, models.outline())
    for message in [*ignored, *(message for name, message in unknown.items() if name in request.query_params)]:
        gr.Warning(f"Part of the link was ignored. {message}")
    return [getattr(selection, name) for name in FIELDS]


def fit(selection: Selection, outline: Outline) -> tuple[Selection, dict[str, str]]:
    """The selection with a layer and a class that the model has, and by field what it had to give up."""
    unknown = {}
    if selection.layer not in outline.layers:
        unknown["layer"] = f"layer: expected one of the model's, {outline.layers[0]} ...; got {selection.layer!r}"
        selection = replace(selection, layer=outline.layers[0])
    if selection.class_id >= len(outline.labels):
        unknown["class_id"] = f"class_id: expected 0 to {len(outline.labels) - 1}; got {selection.class_id}"
        selection = replace(selection, class_id=0)
    return selection, unknown


def _selection_controls(outline: Outline) -> dict[str, Any]:
    """One control a field of `Selection`."""
    start, _ = fit(Selection(), outline)
    return dict(
        layer=gr.Dropdown(outline.layers, value=start.layer, label="Layer", interactive=True, render=False),
        timestep=gr.Slider(0, LAST_TIMESTEP, start.timestep, step=1, label="Timestep", interactive=True, render=False),
        **_method_controls(start),
        **_picture_controls(outline, start),
    )


def _method_controls(start: Selection) -> dict[str, Any]:
    """The bar's controls: each says in its own words what it holds, so that the bar needs no labels."""
    weights = [(f"{bits}-bit weights" if bits < 16 else "float weights", bits) for bits in BITS]
    activations = [(f"{bits}-bit activations" if bits < 16 else "float activations", bits) for bits in BITS]
    strengths = [("salience as trained", 1)] + [(f"salience x {n}, function unchanged", n) for n in STRENGTHS[1:]]
    return {
        "csb": _switch("CSB", start.csb),
        "ssc": _switch("SSC", start.ssc),
        "weight_bits": _choice("Weights", weights, start.weight_bits),
        "activation_bits": _choice("Activations", activations, start.activation_bits),
        "strength": _choice("Salience dial", strengths, start.strength),
    }


def _switch(label: str, value: bool) -> gr.Checkbox:
    """A switch of the bar."""
    return gr.Checkbox(value, label=label, container=False, elem_classes="toggle", interactive=True, render=False)


def _choice(label: str, choices: list[tuple[str, int]], value: int) -> gr.Dropdown:
    """A drop-down of the bar."""
    return gr.Dropdown(
        choices, value=value, label=label, show_label=False, container=False, interactive=True, render=False
    )


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
