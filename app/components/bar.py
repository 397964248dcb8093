"""The selection bar: what is chosen stays in sight on every tab and in the page's address."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

from app.components.controls import Shared, bits_name, strength_name
from app.components.messages import in_words
from app.components.part import html_part, script
from app.services import shelf
from app.services.fitting import fit, opening, prompts
from app.services.models import Outline, outline
from app.services.sites import places
from app.state import BITS, FIELDS, LARGEST_SEED, LAST_CHANNEL, LAST_TIMESTEP, LONGEST_PROMPT, STRENGTHS, Selection

UNSEEN = (
    *("model", "layer", "timestep", "channel", "weight_bits", "activation_bits", "csb", "ssc", "tokens", "strength"),
    *("class_id", "reference", "prompt"),
)
ROUNDING = ("weight_bits", "activation_bits", "csb", "ssc", "tokens")
"""What a phone shows of the bar; the rest stands in a sheet that one button opens."""
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
            server_functions=[model],
            about=about(shared.outline.name),
            groups=grouped_fields(bar_fields(shelf.names())),
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


def model(name: Any) -> dict[str, Any]:
    """What the bar's script asks when another model is chosen: what it can show, and the selection that it opens with.

    The problem in words for a name that the app was not launched with.
    """
    try:
        return about(shelf.entry(name).name)
    except ValueError as error:
        return {"problem": in_words(error)}


def about(name: str) -> dict[str, Any]:
    """A model as the bar shows it: layers by block, classes or prompts to choose from, and where it opens."""
    known = outline(name)
    opens = opening(name)
    return {
        "name": name,
        "layers": grouped(known),
        "labels": list(known.labels),
        "prompts": list(prompts()) if known.prompted else [],
        "prompted": known.prompted,
        "known": known.known,
        "opens": {field: getattr(opens, field) for field in ("layer", "channel", "class_id", "prompt", "strength")},
    }


def grouped(known: Outline) -> list[list[Any]]:
    """A model's layers by block: [title, [[text, layer], ...]]."""
    blocks: dict[str, list[list[str]]] = {}
    for name, place in places(known.layers).items():
        stack = name.split(".")[0]
        title = f"block {place.column}" if stack == "blocks" else f"{stack} {place.column}"
        blocks.setdefault(title, []).append([f"{place.column} {place.row}", name])
    return [[title, few] for title, few in blocks.items()]


def bar_fields(models: Sequence[str]) -> list[dict[str, Any]]:
    """The bar's fields in their order: name, label, hint, and their options or their span.

    Options of layer and class are the chosen model's, which the bar's script fills in.
    """
    bits = [(bits_name(count), count) for count in BITS]
    return [
        _options("model", "Model", "the explored model", [(name, name) for name in models]),
        _options("layer", "Layer", "block and role of the linear layer", []),
        _number("timestep", "Timestep", "999 is pure noise, 0 the picture", 0, LAST_TIMESTEP),
        _number("channel", "Channel", "pinned input channel; empty for none", 0, LAST_CHANNEL, empty="none"),
        _options("weight_bits", "Weights", "bits of every weight", bits),
        _options("activation_bits", "Activations", "bits of every activation", bits),
        _switch("csb", "CSB", "channel-wise salience balancing"),
        _switch("ssc", "SSC", "Spearman's rho-guided salience calibration; needs CSB"),
        _switch("tokens", "Per token", "a scale for every token's input, found as it comes, not one for all"),
        _options("strength", "Salience dial", "function unchanged", [(strength_name(n), n) for n in STRENGTHS]),
        _options("class_id", "Class", "what the picture shows", []),
        _search("classes", "Class", "what the picture shows: type to search"),
        _text("prompt", "Prompt", "what the picture shows", LONGEST_PROMPT),
        _number("seed", "Seed", "the noise that the picture begins with", 0, LARGEST_SEED),
    ]


def grouped_fields(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fields in the two groups in which the bar shows them: how is rounded, then the rest."""
    rounding = [field for field in fields if field["name"] in ROUNDING]
    rest = [field for field in fields if field["name"] not in ROUNDING]
    return [{"name": "rounding", "fields": rounding}, {"name": "rest", "fields": rest, "more": True}]


def _options(name: str, label: str, hint: str, options: list[Any]) -> dict[str, Any]:
    """A field that offers a choice; options as (text, value)."""
    offered = [{"text": text, "value": value} for text, value in options]
    return {"kind": "choice", "name": name, "label": label, "hint": hint, "choice": True, "options": offered}


def _search(name: str, label: str, hint: str) -> dict[str, Any]:
    """A field that finds one of many by its name."""
    return {"kind": "search", "name": name, "label": label, "hint": hint, "search": True}


def _text(name: str, label: str, hint: str, longest: int) -> dict[str, Any]:
    """A field for words."""
    return {"kind": "text", "name": name, "label": label, "hint": hint, "text": True, "longest": str(longest)}


def _number(name: str, label: str, hint: str, low: int, high: int, empty: str = "") -> dict[str, Any]:
    """A field for a whole number."""
    field = {"kind": "number", "name": name, "label": label, "hint": hint, "number": True}
    return field | {"low": str(low), "high": str(high), "empty": empty}


def _switch(name: str, label: str, hint: str) -> dict[str, Any]:
    """A field that is on or off."""
    return {"kind": "switch", "name": name, "label": label, "hint": hint}


def write_address() -> str:
    """The script that writes the controls' values, in field order, to the page's address."""
    usual = Selection().to_query(everything=True)
    if len(shelf.names()) > 1:
        usual["model"] = ""  # the link says which
    defaults = json.dumps(usual)
    return f"(...values) => ({script('address')})({defaults}, values)"


def copy_address() -> str:
    """The script that brings the address up to date and copies it."""
    return f"(...values) => {{ ({write_address()})(...values); return ({script('copy_link')})(); }}"
