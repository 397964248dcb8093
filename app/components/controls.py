"""The controls that all tabs share: one selection, every view follows it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.services import shelf
from app.services.fitting import fit, opening
from app.services.models import Outline
from app.services.models import outline as outline_of
from app.state import BITS, FIELDS, LARGEST_SEED, LAST_TIMESTEP, MOST_STEPS, STRENGTHS, Selection


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The shared controls, one for each field of `Selection` and named as it, and the outline of the first model.

    `opened` is the event after the page's link has set the controls: a tab draws itself first with `opened.then(...)`.
    They are made unrendered: Compare renders seed, steps and guidance, the bar all others, unseen, for a person works
    with the bar itself. Every tab may listen to and set any of them. What the page is built with is of the first model;
    a view shows another one as soon as the selection names it.
    """

    outline: Outline
    model: gr.Textbox
    layer: gr.Textbox
    timestep: gr.Slider
    channel: gr.Number
    weight_bits: gr.Dropdown
    activation_bits: gr.Dropdown
    csb: gr.Checkbox
    ssc: gr.Checkbox
    strength: gr.Dropdown
    reference: gr.Textbox
    class_id: gr.Number
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    prompt: gr.Textbox
    tokens: gr.Checkbox
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
    query = dict(request.query_params)
    selection, ignored = Selection.from_query(query)
    known = selection.model if "model" in query and selection.model in shelf.names() else shelf.first().name
    selection, unknown = fit(selection, outline_of(known), frozenset(query))
    told = [*ignored, *(message for name, message in unknown.items() if name in query)]
    notice = " ".join(f"Part of the link was ignored. {escape(message)}." for message in told)
    usual = opening(shelf.first().name)
    asked = asdict(selection).items()
    return [*(value if value != getattr(usual, name) else gr.skip() for name, value in asked), notice]


def _selection_controls(outline: Outline) -> dict[str, Any]:
    """One control a field of `Selection`."""
    start, _ = fit(Selection(), outline)
    return dict(
        model=gr.Textbox(start.model, label="Model", interactive=True, render=False),
        channel=gr.Number(start.channel, label="Channel", precision=0, interactive=True, render=False),
        layer=gr.Textbox(start.layer, label="Layer", interactive=True, render=False),
        reference=gr.Textbox(start.reference, label="Reference", interactive=True, render=False),
        timestep=gr.Slider(0, LAST_TIMESTEP, start.timestep, step=1, label="Timestep", interactive=True, render=False),
        **_method_controls(start),
        **_picture_controls(start),
    )


def _method_controls(start: Selection) -> dict[str, Any]:
    """How the model is quantized, and the salience dial."""
    bits = [(bits_name(count), count) for count in BITS]
    strengths = [(strength_name(count), count) for count in STRENGTHS]
    return {
        "csb": gr.Checkbox(start.csb, label="CSB", interactive=True, render=False),
        "ssc": gr.Checkbox(start.ssc, label="SSC", interactive=True, render=False),
        "tokens": gr.Checkbox(start.tokens, label="A scale for every token", interactive=True, render=False),
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


def _picture_controls(start: Selection) -> dict[str, Any]:
    """The controls that choose a picture: class or prompt, seed, steps, guidance."""
    return {
        "class_id": gr.Number(start.class_id, label="Class", precision=0, interactive=True, render=False),
        "prompt": gr.Textbox(start.prompt, label="Prompt", interactive=True, render=False),
        "seed": gr.Number(
            start.seed, label="Seed", minimum=0, maximum=LARGEST_SEED, precision=0, interactive=True, render=False
        ),
        "steps": gr.Slider(1, MOST_STEPS, start.steps, step=1, label="Steps", interactive=True, render=False),
        "guidance": gr.Slider(1.0, 20.0, start.guidance, step=0.5, label="Guidance", interactive=True, render=False),
    }
