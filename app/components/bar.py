"""The selection bar: what is chosen stays in sight on every tab and in the page's address."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import gradio as gr

from app.components.controls import Shared, bits_name, fit, model_name, strength_name
from app.components.part import html_part, script
from app.services.models import Outline
from app.state import BITS, FIELDS, LARGEST_SEED, LAST_CHANNEL, LAST_TIMESTEP, ROLES, STRENGTHS, Selection

UNSEEN = ("model", "layer", "timestep", "channel", "weight_bits", "activation_bits", "csb", "ssc", "strength")
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def create_bar(shared: Shared) -> None:
    """Render the bar and wire it: the shared controls follow it, it follows them, the address follows all."""
    start = asdict(fit(Selection(), shared.outline)[0])
    with gr.Row(elem_id="bar"):
        bar = html_part(
            "bar",
            start,
            scripts=("store",),
            apply_default_css=False,
            elem_id="bar-part",
            fields=bar_fields(shared.outline),
        )
    with gr.Row(elem_id="unseen"):
        for name in UNSEEN:
            getattr(shared, name).render()
    names = json.dumps(FIELDS)
    bar.select(None, bar, shared.inputs, js=f"(bar) => {names}.map((name) => bar[name])", **_QUIET)
    gr.on(
        shared.changed(),
        None,
        shared.inputs,
        bar,
        js=f"(...values) => Object.fromEntries({names}.map((name, i) => [name, values[i]]))",
        **_QUIET,
    )
    gr.on(shared.changed(), None, shared.inputs, js=write_address(), **_QUIET)
    bar.copy(None, shared.inputs, js=copy_address(), **_QUIET)


def bar_fields(outline: Outline) -> list[dict[str, Any]]:
    """The bar's fields in their order: name, label, hint, and their options or their span."""
    layers = [(f"block {i}", [(f"{i} {role}", f"blocks.{i}.{role}") for role in ROLES]) for i in range(outline.blocks)]
    bits = [(bits_name(count), count) for count in BITS]
    return [
        _options("model", "Model", "the explored model", [(model_name(outline), model_name(outline))]),
        _options("layer", "Layer", "block and role of the linear layer", layers, grouped=True),
        _number("timestep", "Timestep", "999 is pure noise, 0 the picture", 0, LAST_TIMESTEP),
        _number("channel", "Channel", "pinned input channel; empty for none", 0, LAST_CHANNEL, empty="none"),
        _options("weight_bits", "Weights", "bits of every weight", bits),
        _options("activation_bits", "Activations", "bits of every activation", bits),
        _switch("csb", "CSB", "channel-wise salience balancing"),
        _switch("ssc", "SSC", "Spearman's rho-guided salience calibration; needs CSB"),
        _options("strength", "Salience dial", "function unchanged", [(strength_name(n), n) for n in STRENGTHS]),
        _options("class_id", "Class", "what the picture shows", [(name, i) for i, name in enumerate(outline.labels)]),
        _number("seed", "Seed", "the noise that the picture begins with", 0, LARGEST_SEED),
    ]


def _options(name: str, label: str, hint: str, options: list[Any], grouped: bool = False) -> dict[str, Any]:
    """A field that offers a choice; options as (text, value), grouped ones as (label, options)."""
    groups = [
        {"label": title, "options": [{"text": text, "value": value} for text, value in few]}
        for title, few in (options if grouped else [("", options)])
    ]
    return {"kind": "choice", "name": name, "label": label, "hint": hint, "groups": groups}


def _number(name: str, label: str, hint: str, low: int, high: int, empty: str = "") -> dict[str, Any]:
    """A field for a whole number."""
    field = {"kind": "number", "name": name, "label": label, "hint": hint, "number": True}
    return field | {"low": str(low), "high": str(high), "empty": empty}


def _switch(name: str, label: str, hint: str) -> dict[str, Any]:
    """A field that is on or off."""
    return {"kind": "switch", "name": name, "label": label, "hint": hint}


def write_address() -> str:
    """The script that writes the controls' values, in field order, to the page's address."""
    defaults = json.dumps(Selection().to_query(everything=True))
    return f"(...values) => ({script('address')})({defaults}, values)"


def copy_address() -> str:
    """The script that brings the address up to date and copies it."""
    return f"(...values) => {{ ({write_address()})(...values); return ({script('copy_link')})(); }}"
