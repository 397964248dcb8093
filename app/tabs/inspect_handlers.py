"""What Inspect draws: one function for each part of the tab, and one handler that draws what has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from app.components.chart import shown
from app.components.layer_map import map_value
from app.components.messages import explained
from app.content import readings
from app.figures.inspect.channels import Scale, channels_figure
from app.figures.inspect.complementarity import complementarity_figure
from app.figures.inspect.error import error_figure, error_over_time_figure
from app.figures.inspect.heatmap import heatmap_figure
from app.figures.inspect.timesteps import timesteps_figure
from app.services.inspection import MEASURES, LayerView, layer_errors, layer_view, map_numbers, variant
from app.state import FIELDS, Selection


@dataclass(frozen=True)
class Look:
    """How Inspect shows things: the map's measure, one timestep or all, the channels' order and scale."""

    measure: str = "activation"
    span: str = "one"
    order: str = "channel"
    scale: Scale = "median"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the tab: the places it fills, the fields of `Selection` and `Look` that it needs, how it is drawn."""

    places: tuple[str, ...]
    needs: tuple[str, ...]
    draw: Callable[[Selection, Look], list[Any]]

    def key(self, selection: Selection, look: Look) -> list[Any]:
        """What it would be drawn from: a part whose key is as it was need not be drawn again."""
        return [getattr(selection if name in FIELDS else look, name) for name in self.needs]


def draw(drawn: Mapping[str, list[Any]], *values: Any) -> list[Any]:
    """What is drawn after this event, then the values of all places in `PARTS` order, skipping what stays as it is.

    drawn: the keys of the parts as they stand on the page; values: the controls', shared ones first. Raises gr.Error,
    with a message for the reader, where the selection cannot be shown.
    """
    with explained():
        selection = Selection.from_controls(*values[: len(FIELDS)])
        look = Look(*values[len(FIELDS) :])
        keys = {name: part.key(selection, look) for name, part in PARTS.items()}
        filled: list[Any] = []
        for name, part in PARTS.items():
            fresh = drawn.get(name) != keys[name]
            filled += part.draw(selection, look) if fresh else [gr.skip() for _ in part.places]
        return [keys, *filled]


def pick_layer(event: gr.EventData) -> str:
    """The layer that was chosen on the map."""
    return str(event.layer)


def view_of(selection: Selection) -> LayerView:
    """The chosen layer as the switches balance it."""
    return layer_view(selection.layer, selection.csb, selection.ssc, selection.strength)


def draw_map(selection: Selection, look: Look) -> list[Any]:
    """The layer map in the chosen measure."""
    numbers = map_numbers(look.measure, selection.weight_bits, selection.activation_bits, selection.strength)
    return [map_value(MEASURES[look.measure], numbers, selection.layer)]


def draw_summary(selection: Selection, look: Look) -> list[Any]:
    """What is on show, in words."""
    view = view_of(selection)
    return [
        readings.summary(
            view.layer, len(view.weight), int(view.timesteps[view.nearest(selection.timestep)]), view.strength
        )
    ]


def draw_channels(selection: Selection, look: Look) -> list[Any]:
    """Channel chart and reading."""
    view = view_of(selection)
    activation, balanced = salience_on_show(view, selection, look)
    figure = channels_figure(activation, view.weight, balanced, _order(activation, look), look.scale)
    return [shown(figure), readings.channels_reading(activation, view.weight, balanced, view.role)]


def draw_timesteps(selection: Selection, look: Look) -> list[Any]:
    """rho and timestep weights, and reading."""
    view = view_of(selection)
    at = view.nearest(selection.timestep)
    after = view.rho_balanced if view.balanced else None
    used = view.balanced and view.ssc
    figure = timesteps_figure(view.timesteps, view.rho, after, view.weights, used, int(view.timesteps[at]))
    reading = readings.timesteps_reading(view.timesteps, view.rho, view.weights, at, view.balanced, view.ssc)
    return [shown(figure), reading]


def draw_heatmap(selection: Selection, look: Look) -> list[Any]:
    """Channel by timestep, balanced where the switches say so, and reading."""
    view = view_of(selection)
    order = _order(salience_on_show(view, selection, look)[0], look)
    at = int(view.timesteps[view.nearest(selection.timestep)])
    figure = heatmap_figure(view.timesteps, view.balanced_activation, order, at)
    return [shown(figure), readings.heatmap_reading(view.timesteps, view.balanced_activation)]


def draw_complementarity(selection: Selection, look: Look) -> list[Any]:
    """Activation against weight, and reading."""
    view = view_of(selection)
    activation, balanced = salience_on_show(view, selection, look)
    figure = complementarity_figure(activation, view.weight, balanced)
    return [shown(figure), readings.complementarity_reading(activation, view.weight)]


def draw_error(selection: Selection, look: Look) -> list[Any]:
    """The layer's error overall and over time, and reading."""
    view = view_of(selection)
    errors = layer_errors(selection.layer, selection.weight_bits, selection.activation_bits, selection.strength)
    chosen = variant(view.balanced, view.ssc)
    at = int(view.timesteps[view.nearest(selection.timestep)])
    return [
        shown(error_figure(errors.overall, chosen)),
        readings.error_reading(errors.overall, selection.weight_bits, selection.activation_bits),
        shown(error_over_time_figure(view.timesteps, errors.over_time, chosen, at)),
        readings.error_over_time_reading(view.timesteps, errors.over_time, chosen),
    ]


def salience_on_show(
    view: LayerView, selection: Selection, look: Look
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Activation salience at the chosen timestep or over all, and the balanced pair where there is one."""
    before, after = view.activation, view.balanced_activation
    if look.span == "all":
        activation, balanced = before.max(axis=0), after.max(axis=0)
    else:
        at = view.nearest(selection.timestep)
        activation, balanced = before[at], after[at]
    return activation, (balanced, view.balanced_weight) if view.balanced else None


def _order(activation: np.ndarray, look: Look) -> np.ndarray:
    """Channel numbers from left to right."""
    return np.argsort(-activation, kind="stable") if look.order == "salience" else np.arange(len(activation))


_BALANCING = ("layer", "csb", "ssc", "strength")
PARTS = {
    "map": Part(
        places=("map",), needs=("layer", "strength", "weight_bits", "activation_bits", "measure"), draw=draw_map
    ),
    "summary": Part(places=("summary",), needs=("layer", "strength", "timestep"), draw=draw_summary),
    "channels": Part(
        places=("channels", "channels_reading"),
        needs=(*_BALANCING, "timestep", "span", "order", "scale"),
        draw=draw_channels,
    ),
    "timesteps": Part(places=("timesteps", "timesteps_reading"), needs=(*_BALANCING, "timestep"), draw=draw_timesteps),
    "heatmap": Part(
        places=("heatmap", "heatmap_reading"), needs=(*_BALANCING, "timestep", "span", "order"), draw=draw_heatmap
    ),
    "complementarity": Part(
        places=("complementarity", "complementarity_reading"),
        needs=(*_BALANCING, "timestep", "span"),
        draw=draw_complementarity,
    ),
    "error": Part(
        places=("error", "error_reading", "error_over_time", "error_over_time_reading"),
        needs=(*_BALANCING, "timestep", "weight_bits", "activation_bits"),
        draw=draw_error,
    ),
}
