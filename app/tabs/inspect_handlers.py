"""What Inspect draws: one function for each part of the tab, and one handler that draws any set of parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

PLACES = {
    "map": ("map",),
    "summary": ("summary",),
    "channels": ("channels", "channels_reading"),
    "timesteps": ("timesteps", "timesteps_reading"),
    "heatmap": ("heatmap", "heatmap_reading"),
    "complementarity": ("complementarity", "complementarity_reading"),
    "error": ("error", "error_reading", "error_over_time", "error_over_time_reading"),
}


@dataclass(frozen=True)
class Look:
    """How Inspect shows things: the map's measure, one timestep or all, the channels' order and scale."""

    measure: str = "activation"
    span: str = "one"
    order: str = "channel"
    scale: Scale = "median"


def draw(parts: Sequence[str], *values: Any) -> list[Any]:
    """The values of the places of the given parts, in `PLACES` order; `values` are the controls', shared ones first.

    Raises gr.Error with a message for the reader where the selection cannot be shown.
    """
    with explained():
        selection = Selection.from_controls(*values[: len(FIELDS)])
        look = Look(*values[len(FIELDS) :])
        return [place for part in parts for place in DRAWERS[part](selection, look)]


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


DRAWERS: dict[str, Callable[[Selection, Look], list[Any]]] = {
    "map": draw_map,
    "summary": draw_summary,
    "channels": draw_channels,
    "timesteps": draw_timesteps,
    "heatmap": draw_heatmap,
    "complementarity": draw_complementarity,
    "error": draw_error,
}


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
