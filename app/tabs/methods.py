"""Methods: the registry's methods against PTQ4DiT, from a stored benchmark and, for a chosen pair, live."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components.chart import chart
from app.components.controls import Shared
from app.components.follower import follow
from app.components.part import html_part
from app.content import words
from app.services.stored_benchmark import load_benchmark
from app.tabs import methods_handlers as handlers
from app.tabs.game import create_game
from app.tabs.methods_live import create_live_pair
from app.tabs.methods_view import MEASURES, measures

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def create_methods_tab(shared: Shared) -> None:
    """Build the tab: a look without labels, what was measured, PTQ4DiT's parts, then a pair to run."""
    create_game(shared)
    gr.Markdown(words("methods"))
    with gr.Column(elem_classes="card", elem_id="methods") as results:
        setting, measure = _choices(shared)
        reading = gr.Markdown("Reading the stored results.", elem_classes="reading", elem_id="methods-reading")
        charts, ranking, differences = _charts()
        table = html_part("table", handlers.NOTHING, elem_id="methods-table")
        source = gr.Markdown(elem_classes="source", elem_id="methods-source")
    with gr.Column(elem_classes="card", visible=False, elem_id="methods-factorial") as card:
        gr.Markdown("### PTQ4DiT's parts: balancing, ranges per tensor or per token, rounding learned or not")
        factorial = chart("PTQ4DiT's parts", 340)
        parts = html_part("table", handlers.NOTHING, elem_id="methods-parts")
    outputs = [setting, measure, reading, charts, ranking, differences, table, card, factorial, parts, source]
    asked = ("model", "strength", "weight_bits", "activation_bits")
    with results:
        follow(shared, asked, handlers.draw, outputs, own=[measure], triggers=[measure.change])
    moved = [shared.strength, shared.weight_bits, shared.activation_bits]
    setting.input(handlers.choose, [setting, shared.model], moved, queue=False, **PRIVATE)
    create_live_pair(shared)


def _choices(shared: Shared) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Where it was measured, and what."""
    try:
        stored = load_benchmark(shared.outline.name)
        known, offered = handlers.settings(stored), measures(stored)
    except ValueError:
        known, offered = [], [(MEASURES["psnr"].title, "psnr")]
    with gr.Row():
        value = known[0][1] if known else None
        setting = gr.Dropdown(known, value=value, label="Measured at", elem_id="methods-setting", interactive=True)
        measure = gr.Dropdown(offered, value="psnr", label="Metric", elem_id="methods-measure", interactive=True)
    return setting, measure


def _charts() -> tuple[gr.Row, gr.Plot, gr.Plot]:
    """Means beside paired differences."""
    with gr.Row() as charts:
        with gr.Column(min_width=300):
            gr.Markdown("### Against full precision")
            ranking = chart("Methods against full precision", 440)
        with gr.Column(min_width=300):
            gr.Markdown("### Against PTQ4DiT, picture by picture")
            differences = chart("Methods against PTQ4DiT", 440)
    return charts, ranking, differences
