"""Every chart of the app by name, drawn for a selection: what the Data & API tab hands out as CSV, PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import plotly.graph_objects as go

from app.balancing import way
from app.figures.inspect.channels import channels_figure
from app.figures.inspect.complementarity import complementarity_figure
from app.figures.inspect.error import error_figure, error_over_time_figure
from app.figures.inspect.heatmap import heatmap_figure
from app.figures.inspect.timesteps import timesteps_figure
from app.services.effect import LayerErrors
from app.services.inspection import LayerView, layer_errors, layer_view
from app.services.loading import command
from app.services.stored_benchmark import Benchmark, Setting, load_benchmark
from app.state import Selection, one_of
from app.tabs import learn_handlers, methods_view
from app.tabs.data_stored import dial_figure, start_figure

Drawn: TypeAlias = go.Figure | str
CALIBRATED = "calibration.safetensors of the model, written by `python -m ptq4dit calibrate`"
SYNTHETIC = "made up for the lesson, no measurement"
BENCHMARK = "results/benchmark.json of the model, written by `python -m ptq4dit benchmark`"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart: its tab and title, where its numbers come from, what rounded them, and how it is drawn."""

    tab: str
    title: str
    source: str
    backend: str
    draw: Callable[[Selection], Drawn]


def _view(selection: Selection) -> LayerView:
    return layer_view(selection.model, selection.layer, selection.csb, selection.ssc, selection.strength)


def _at(view: LayerView, selection: Selection) -> float:
    return float(view.timesteps[view.nearest(selection.timestep)])


def _errors(selection: Selection) -> LayerErrors:
    return layer_errors(selection.model, selection.layer, *selection.rounding)


def _channels(selection: Selection) -> Drawn:
    view = _view(selection)
    at = view.nearest(selection.timestep)
    balanced = (view.balanced_activation[at], view.balanced_weight) if view.balanced else None
    return channels_figure(view.activation[at], view.weight, balanced, np.arange(len(view.weight)))


def _complementarity(selection: Selection) -> Drawn:
    view = _view(selection)
    at = view.nearest(selection.timestep)
    balanced = (view.balanced_activation[at], view.balanced_weight) if view.balanced else None
    return complementarity_figure(view.activation[at], view.weight, balanced)


def _timesteps(selection: Selection) -> Drawn:
    view = _view(selection)
    after, used = (view.rho_balanced if view.balanced else None), view.balanced and view.ssc
    return timesteps_figure(view.timesteps, view.rho, after, view.weights, used, _at(view, selection))


def _heatmap(selection: Selection) -> Drawn:
    view = _view(selection)
    order = np.arange(len(view.weight))
    return heatmap_figure(view.timesteps, view.balanced_activation, order, _at(view, selection))


def _error(selection: Selection) -> Drawn:
    view = _view(selection)
    errors = _errors(selection)
    return error_figure(errors.overall, way(view.balanced, view.ssc))


def _error_over_time(selection: Selection) -> Drawn:
    view = _view(selection)
    errors = _errors(selection)
    chosen = way(view.balanced, view.ssc)
    return error_over_time_figure(view.timesteps, errors.over_time, chosen, _at(view, selection))


def _stored(draw: Callable[[Benchmark, Setting], Drawn]) -> Callable[[Selection], Drawn]:
    """A chart of the benchmark at the measured setting nearest to a selection."""

    def drawn(selection: Selection) -> Drawn:
        stored = load_benchmark(selection.model)
        setting = stored.nearest(selection.strength, selection.weight_bits, selection.activation_bits)
        if setting is None:
            raise ValueError(
                f"Nothing is measured of {selection.model} yet. Run {command(selection.model)} --benchmark"
            )
        return draw(stored, setting)

    return drawn


def _factorial(stored: Benchmark, setting: Setting) -> Drawn:
    return methods_view.factorial(stored.factorials.get(setting, {}), "psnr")


def _lesson(draw: Callable[[Selection], object]) -> Callable[[Selection], Drawn]:
    """A lesson's chart, from the handler that draws it."""
    return lambda selection: str(draw(selection).plot)  # type: ignore[attr-defined]


_INSPECT = {
    "channels": ("Channels: activation and weight salience", "none", _channels),
    "heatmap": ("Salience over channels and timesteps", "none", _heatmap),
    "timesteps": ("Correlation rho and weight eta over timesteps", "none", _timesteps),
    "complementarity": ("Activation against weight salience", "none", _complementarity),
    "error": ("Error of the layer's output", "simulated", _error),
    "error-over-time": ("Error of the layer's output over timesteps", "simulated", _error_over_time),
}
_LEARN: dict[str, tuple[str, Callable[[Selection], object]]] = {
    "rounding": ("1: rounding on a number line", lambda s: learn_handlers.draw_rounding(min(s.weight_bits, 8))[0]),
    "outlier": ("2: what one outlier does", lambda s: learn_handlers.draw_outlier(8.0)[0]),
    "salience": ("3: salience of channels", lambda s: learn_handlers.draw_salience(s.model, s.layer, s.strength)[0]),
    "balance": ("4: balanced channels", lambda s: learn_handlers.draw_balance(s.model, s.layer, s.strength, 100.0)[0]),
    "weights": ("5: timesteps", lambda s: learn_handlers.draw_timesteps(s.model, s.layer, s.strength, s.timestep)[0]),
}
_METHODS = {
    "ranking": ("Methods against full precision", lambda b, s: methods_view.ranking(b, s, "psnr")),
    "differences": ("Methods against PTQ4DiT, paired", methods_view.differences),
    "factorial": ("PTQ4DiT's parts", _factorial),
}
CHARTS: dict[str, Chart] = {
    "start": Chart(
        tab="Start",
        title="Balancing at the stored bits",
        source="results/results.json of the model, written by `python -m ptq4dit prepare`",
        backend="simulated",
        draw=start_figure,
    ),
    "dial": Chart(
        tab="Start",
        title="PSNR over the salience dial",
        source="results/dial.json of the model, written by `python assets/recipes/dial.py`",
        backend="simulated",
        draw=dial_figure,
    ),
    **{
        f"learn-{key}": Chart(
            tab="Learn",
            title=title,
            source=SYNTHETIC if key in ("rounding", "outlier") else CALIBRATED,
            backend="none",
            draw=_lesson(draw),
        )
        for key, (title, draw) in _LEARN.items()
    },
    **{
        f"inspect-{key}": Chart(tab="Inspect", title=title, source=CALIBRATED, backend=backend, draw=draw)
        for key, (title, backend, draw) in _INSPECT.items()
    },
    **{
        f"methods-{key}": Chart(tab="Methods", title=title, source=BENCHMARK, backend="simulated", draw=_stored(stored))
        for key, (title, stored) in _METHODS.items()
    },
}
"""Key -> chart, in the order of the tabs. Compare's drift is in the zip that Compare offers."""


def chart(key: str) -> Chart:
    """The chart of a key; ValueError, naming all, where there is none."""
    return CHARTS[one_of("chart", key, tuple(CHARTS))]
