"""Inspect: one layer's salient channels, its timesteps and its quantization error, balanced or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import Context

from app.components.chart import chart
from app.components.controls import Shared
from app.components.layer_map import layer_map, map_value
from app.content import words
from app.services.inspection import MEASURES
from app.state import Selection
from app.tabs import inspect_handlers as handlers
from app.tabs.inspect_api import create_endpoints
from app.tabs.inspect_files import download, offer_csv, offer_png

LOADING = "The charts appear by themselves as soon as the model is loaded, a few seconds after the start."


@dataclass(frozen=True, kw_only=True)
class _Look:
    """The controls that only change how Inspect shows things."""

    measure: gr.Dropdown
    span: gr.Radio
    order: gr.Radio
    scale: gr.Radio

    @property
    def inputs(self) -> list[gr.Dropdown | gr.Radio]:
        """In the order of `inspect_handlers.Look`."""
        return [self.measure, self.span, self.order, self.scale]


def create_inspect_tab(shared: Shared) -> None:
    """Build the tab and let it follow the shared selection."""
    gr.Markdown(words("inspect"))
    places: dict[str, Any] = {}
    with gr.Row(equal_height=True):
        with gr.Column(scale=3, min_width=320, elem_classes="card"):
            measure = _map_card(shared, places)
        with gr.Column(scale=2, min_width=300, elem_classes="card"):
            span = _choice_card(shared, places)
    with gr.Column(elem_classes="card"):
        order, scale = _channel_card(places)
    with gr.Row(equal_height=True):
        _card(places, "timesteps", "Timesteps: Spearman's rho, and what each timestep counts", 340)
        _card(places, "heatmap", "Activation salience, channel by timestep", 340)
    with gr.Row(equal_height=True):
        _card(places, "complementarity", "Activation against weight", 300)
        _card(places, "error", "Quantization error of this layer", 300)
        _card(places, "error_over_time", "Error over the timesteps", 300)
    look = _Look(measure=measure, span=span, order=order, scale=scale)
    with gr.Row():
        download("Charts' data as CSV", offer_csv, shared.inputs + look.inputs, "inspect-csv")
        download("Charts as PNG", offer_png, shared.inputs + look.inputs, "inspect-png")
    _wire(shared, look, places)
    create_endpoints()


def _map_card(shared: Shared, places: dict[str, Any]) -> gr.Dropdown:
    """The layer map, empty until the model is there, and what colours it."""
    gr.Markdown("### Layers")
    choices = [(text, key) for key, text in MEASURES.items()]
    measure = gr.Dropdown(choices, value="activation", label="Coloured by", show_label=False)
    empty = dict.fromkeys(shared.outline.layers, float("nan"))
    places["map"] = layer_map(map_value(MEASURES["activation"], empty, Selection().layer))
    return measure


def _choice_card(shared: Shared, places: dict[str, Any]) -> gr.Radio:
    """What is chosen: layer, timestep, and whether one timestep is shown or all."""
    places["summary"] = gr.Markdown(LOADING, elem_classes="reading")
    shared.layer.render()
    shared.timestep.render()
    return gr.Radio([("at this timestep", "one"), ("over all timesteps", "all")], value="one", label="Salience")


def _channel_card(places: dict[str, Any]) -> tuple[gr.Radio, gr.Radio]:
    """The channels, with the controls of their order and scale."""
    gr.Markdown("### Channels: activation upward, weight downward")
    with gr.Row():
        scales = [("times the median", "median"), ("linear", "linear"), ("log", "log")]
        scale = gr.Radio(scales, value="median", label="Scale", min_width=240)
        orders = [("by number", "channel"), ("most salient first", "salience")]
        order = gr.Radio(orders, value="channel", label="Order", min_width=240)
    _chart(places, "channels", "Channels", 400)
    return order, scale


def _card(places: dict[str, Any], name: str, title: str, height: int) -> None:
    """A card of one chart."""
    with gr.Column(min_width=320, elem_classes="card"):
        gr.Markdown(f"### {title}")
        _chart(places, name, title, height)


def _chart(places: dict[str, Any], name: str, title: str, height: int) -> None:
    """A chart with its reading beneath."""
    places[name] = chart(title, height)
    places[f"{name}_reading"] = gr.Markdown(elem_classes="reading")


def _wire(shared: Shared, look: _Look, places: dict[str, Any]) -> None:
    """One handler for all changes, so that what a later change draws is never overtaken by an earlier one."""
    drawn = gr.State({})
    tab = Context.block
    assert isinstance(tab, gr.Tab), "create_inspect_tab belongs inside a gr.Tab"
    shown = ("layer", "timestep", "weight_bits", "activation_bits", "csb", "ssc", "strength")
    gr.on(
        [tab.select, *shared.changed(*shown), *(control.change for control in look.inputs)],
        handlers.draw,
        [drawn, *shared.inputs, *look.inputs],
        [drawn, *(places[place] for part in handlers.PARTS.values() for place in part.places)],
        trigger_mode="always_last",
        show_progress="hidden",
        concurrency_limit=4,
        api_visibility="private",
    )
    places["map"].select(
        handlers.pick_layer, None, shared.layer, queue=False, show_progress="hidden", api_visibility="private"
    )
