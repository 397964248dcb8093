"""Inspect: one layer's salient channels, its timesteps and its quantization error, balanced or not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app.components.chart import chart
from app.components.controls import Shared
from app.components.layer_map import layer_map, map_value
from app.content import words
from app.services.inspection import MEASURES
from app.state import Selection
from app.tabs import inspect_handlers as handlers

LOADING = "The model is loading; the charts appear by themselves in a few seconds."


@dataclass(frozen=True, kw_only=True)
class _Look:
    """The controls that only change how Inspect shows things."""

    measure: gr.Dropdown
    span: gr.Radio
    order: gr.Radio
    scale: gr.Radio

    @property
    def inputs(self) -> list[gr.components.Component]:
        """In the order of `inspect_handlers.Look`."""
        return [self.measure, self.span, self.order, self.scale]


def create_inspect_tab(shared: Shared) -> None:
    """Build the tab and let it follow the shared selection."""
    gr.Markdown(words("inspect"))
    places: dict[str, Any] = {}
    with gr.Row(equal_height=False, elem_classes="inspect-top"):
        with gr.Column(scale=3, min_width=320, elem_classes="card"):
            measure = gr.Dropdown(
                [(text, key) for key, text in MEASURES.items()], label="Colour the map by", value="activation"
            )
            empty = dict.fromkeys(shared.outline.layers, float("nan"))
            places["map"] = layer_map(map_value(MEASURES["activation"], empty, Selection().layer))
        with gr.Column(scale=2, min_width=280, elem_classes="card"):
            shared.layer.render()
            shared.timestep.render()
            span = gr.Radio(
                [("at this timestep", "one"), ("over all timesteps", "all")], value="one", label="Show salience"
            )
            places["summary"] = gr.Markdown(LOADING, elem_classes="reading")
    order, scale = _channel_charts(places)
    _time_charts(places)
    _effect_charts(places)
    look = _Look(measure=measure, span=span, order=order, scale=scale)
    _wire(shared, look, places)


def _place(places: dict[str, Any], name: str, title: str, height: int) -> None:
    """A titled chart with its reading beneath."""
    gr.Markdown(f"### {title}", elem_classes="chart-title")
    places[name] = chart(title, height)
    places[f"{name}_reading"] = gr.Markdown(elem_classes="reading")


def _channel_charts(places: dict[str, Any]) -> tuple[gr.Radio, gr.Radio]:
    """The channels, with the controls of their order and scale."""
    with gr.Column(elem_classes="card"):
        _place(places, "channels", "Channels: activation up, weight down", 380)
        with gr.Row():
            order = gr.Radio(
                [("by number", "channel"), ("most salient first", "salience")],
                value="channel",
                label="Order",
                min_width=200,
            )
            scale = gr.Radio(
                [("linear", "linear"), ("log", "log"), ("times the median", "median")],
                value="linear",
                label="Scale",
                min_width=200,
            )
    return order, scale


def _time_charts(places: dict[str, Any]) -> None:
    """The timesteps: rho with its weights, and the heat map."""
    with gr.Row(equal_height=True):
        with gr.Column(min_width=320, elem_classes="card"):
            _place(places, "timesteps", "Timesteps: Spearman's rho and what SSC makes of it", 340)
        with gr.Column(min_width=320, elem_classes="card"):
            _place(places, "heatmap", "Activation salience, channel by timestep", 340)


def _effect_charts(places: dict[str, Any]) -> None:
    """Complementarity, and what rounding costs."""
    with gr.Row(equal_height=True):
        with gr.Column(min_width=320, elem_classes="card"):
            _place(places, "complementarity", "Complementarity: activation against weight", 340)
        with gr.Column(min_width=320, elem_classes="card"):
            _place(places, "error", "Quantization error of this layer", 300)
            places["error_over_time"] = chart("Quantization error over timesteps", 300)


def _wire(shared: Shared, look: _Look, places: dict[str, Any]) -> None:
    """One handler for each kind of change, drawing all that it moves and nothing else."""
    over_time = ["summary", "channels", "timesteps", "heatmap", "complementarity", "error"]
    moves = [
        (list(handlers.PLACES), shared.changed("layer", "csb", "ssc", "strength")),
        (over_time, [*shared.changed("timestep"), look.span.change]),
        (["map", "error"], shared.changed("weight_bits", "activation_bits")),
        (["channels", "heatmap"], [look.order.change]),
        (["channels"], [look.scale.change]),
        (["map"], [look.measure.change]),
    ]
    for parts, triggers in moves:
        gr.on(triggers, **_drawing(shared, look, places, parts), trigger_mode="always_last")
    shared.opened.then(**_drawing(shared, look, places, list(handlers.PLACES)))
    places["map"].select(
        handlers.pick_layer, None, shared.layer, queue=False, show_progress="hidden", api_visibility="private"
    )


def _drawing(shared: Shared, look: _Look, places: dict[str, Any], parts: list[str]) -> dict[str, Any]:
    """The arguments of an event that draws the given parts."""
    return {
        "fn": partial(handlers.draw, parts),
        "inputs": shared.inputs + look.inputs,
        "outputs": [places[place] for part in parts for place in handlers.PLACES[part]],
        "show_progress": "hidden",
        "concurrency_limit": 4,
        "api_visibility": "private",
    }
