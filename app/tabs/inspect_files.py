"""What a person takes away from Inspect: the charts' data as CSV and the charts as one PNG picture."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
import numpy as np

from app.balancing import NAMES, TOKENS, way
from app.components.messages import explained
from app.services.effect import LayerErrors
from app.services.inspection import LayerView, layer_errors, layer_view
from app.state import Selection


def offer_csv(*values: Any) -> Iterator[str]:
    """A CSV file of everything that Inspect shows of the chosen layer; the file lasts until it has been taken over."""
    with explained(), TemporaryDirectory() as folder:
        selection = Selection.from_controls(*values)
        file = Path(folder) / f"{_name(selection)}.csv"
        with file.open("w", newline="", encoding="utf-8") as target:
            _write(csv.writer(target), selection, view_of(selection), _errors(selection))
        yield str(file)


def offer_png(*values: Any) -> Iterator[str]:
    """A PNG picture of all charts of the chosen layer at the chosen timestep."""
    yield from _offer_picture("png", values)


def offer_svg(*values: Any) -> Iterator[str]:
    """The same as an SVG picture."""
    yield from _offer_picture("svg", values)


def _offer_picture(kind: str, values: tuple[Any, ...]) -> Iterator[str]:
    """The sheet of all charts; the file lasts until it has been taken over."""
    from app.figures.inspect.sheet import sheet_figure

    with explained(), TemporaryDirectory() as folder:
        selection = Selection.from_controls(*values)
        view, errors = view_of(selection), _errors(selection)
        at = view.nearest(selection.timestep)
        file = Path(folder) / f"{_name(selection)}.{kind}"
        figure = sheet_figure(
            title=_title(selection),
            activation=view.activation[at],
            weight=view.weight,
            balanced=(view.balanced_activation[at], view.balanced_weight) if view.balanced else None,
            timesteps=view.timesteps,
            rho=view.rho,
            weights=view.weights,
            salience=view.balanced_activation,
            errors=errors.overall,
            errors_over_time=errors.over_time,
            timestep=view.timesteps[at].item(),
        )
        figure.savefig(file, dpi=150)
        yield str(file)


def view_of(selection: Selection) -> LayerView:
    """The chosen layer as the switches balance it."""
    return layer_view(selection.model, selection.layer, selection.csb, selection.ssc, selection.strength)


def download(label: str, make: Any, inputs: list[Any], elem_id: str, ready: bool = True) -> gr.Button:
    """A button that makes a file when it is pressed and hands it to the browser; at first shut where not `ready`."""
    button = gr.Button(label, size="sm", scale=0, min_width=190, elem_id=elem_id, interactive=ready)
    file = gr.DownloadButton(visible="hidden", elem_id=f"{elem_id}-file")
    made = button.click(make, inputs, file, show_progress="minimal", api_visibility="private")
    made.success(None, js=f"() => document.getElementById('{elem_id}-file').click()")
    return button


def _errors(selection: Selection) -> LayerErrors:
    return layer_errors(selection.model, selection.layer, *selection.rounding)


def _name(selection: Selection) -> str:
    """A file name that says what is in it."""
    bits = f"w{selection.weight_bits}a{selection.activation_bits}" + "-token" * selection.tokens
    return f"{selection.model}-{selection.layer}-{bits}-{way(selection.csb, selection.ssc)}-x{selection.strength}"


def _title(selection: Selection) -> str:
    """What made the numbers, in one line."""
    dial = f", salience x {selection.strength}, function unchanged" if selection.strength > 1 else ""
    method = NAMES[way(selection.csb, selection.ssc)]
    bits = f"W{selection.weight_bits}A{selection.activation_bits}"
    return f"{selection.model}: {selection.layer}, {bits} simulated, {method}{TOKENS[selection.tokens]}{dial}"


def _write(table: Any, selection: Selection, view: LayerView, errors: LayerErrors) -> None:
    """One row a number; the first line, a comment, says what made them."""
    table.writerow([f"# {_title(selection)}"])
    table.writerow(["series", "timestep", "channel", "value"])
    for name, values in (("activation", view.activation), ("balanced_activation", view.balanced_activation)):
        for timestep, row in zip(view.timesteps, values, strict=True):
            table.writerows([name, timestep, channel, f"{value:.6g}"] for channel, value in enumerate(row))
    for name, values in (("weight", view.weight), ("balanced_weight", view.balanced_weight), ("b_x", view.factors)):
        table.writerows([name, "", channel, f"{value:.6g}"] for channel, value in enumerate(values))
    over_time: dict[str, np.ndarray] = {"rho": view.rho, "rho_balanced": view.rho_balanced, "eta": view.weights}
    over_time |= {f"error {key}": values for key, values in errors.over_time.items()}
    for name, values in over_time.items():
        table.writerows([name, t, "", f"{value:.6g}"] for t, value in zip(view.timesteps, values, strict=True))
    table.writerows([f"error {key}", "", "", f"{value:.6g}"] for key, value in errors.overall.items())
