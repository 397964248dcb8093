"""What the Methods tab does when the selection or the metric moves; named functions that need no server."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components.chart import shown
from app.components.messages import explained, in_words
from app.services.loading import command
from app.services.stored_benchmark import Benchmark, Setting, load_benchmark
from app.state import FIELDS, Selection, one_of
from app.tabs import methods_view as view

NOTHING = {"label": "Nothing measured", "columns": ["Nothing measured yet"], "rows": []}


def draw(measure: str, *values: Any) -> list[Any]:
    """Setting, metric, reading, place of the charts, ranking, differences, table, then the factorial's card, chart
    and table, and the source.

    Shows what was measured nearest to the selection and says so where that is another setting. Where nothing was
    measured of the model, nothing is shown but how to measure it.
    """
    selection = Selection.from_controls(*values[: len(FIELDS)])
    try:
        stored = load_benchmark(selection.model)
    except ValueError as error:
        return _nothing(in_words(error))
    setting = stored.nearest(selection.strength, selection.weight_bits, selection.activation_bits)
    if setting is None:
        return _nothing(f"Nothing is measured of {selection.model} yet; run `{command(selection.model)} --benchmark`.")
    offered = view.measures(stored)
    measure = next((name for _, name in offered if name == measure), offered[0][1])
    return [
        gr.update(choices=settings(stored), value=key(setting)),
        gr.update(choices=offered, value=measure),
        remark(selection, setting) + view.reading(stored, setting),
        gr.update(visible=True),
        shown(view.ranking(stored, setting, measure)),
        shown(view.differences(stored, setting)),
        view.table(stored, setting),
        *_factorial(stored, setting, measure),
        view.source(stored),
    ]


def _nothing(message: str) -> list[Any]:
    """Empty views with a message."""
    empty, hidden = gr.update(choices=[], value=None), gr.update(visible=False)
    return [empty, gr.skip(), message, hidden, None, None, NOTHING, hidden, None, NOTHING, ""]


def _factorial(stored: Benchmark, setting: Setting, measure: str) -> list[Any]:
    """The card, chart and table of PTQ4DiT's parts; hidden where none was measured at this setting."""
    cells = stored.factorials.get(setting, {})
    if not cells:
        return [gr.update(visible=False), gr.skip(), NOTHING]
    figure, numbers = view.factorial(cells, measure), view.factorial_table(setting, cells, measure)
    return [gr.update(visible=True), shown(figure), numbers]


def settings(stored: Benchmark) -> list[tuple[str, str]]:
    """The settings that were measured, as choices."""
    return [(setting.title, key(setting)) for setting in stored.tables]


def key(setting: Setting) -> str:
    """A setting as a choice's value."""
    return f"{setting.strength}/{setting.bits}"


def choose(chosen: str, model: str) -> list[int]:
    """A setting was chosen: the shared strength, weight_bits and activation_bits that it stands for."""
    with explained():
        chosen = one_of("setting", chosen, [value for _, value in settings(load_benchmark(model))])
    strength, bits = chosen.split("/")
    weight, activation = bits.removeprefix("W").split("A")
    return [int(strength), int(weight), int(activation)]


def remark(selection: Selection, setting: Setting) -> str:
    """Says so where the setting shown is not what the selection asks for."""
    bits = f"W{selection.weight_bits}A{selection.activation_bits}"
    wanted = Setting(strength=selection.strength, bits=bits)
    return "" if wanted == setting else f"{wanted.title} is not measured, so this shows {setting.title}. "
