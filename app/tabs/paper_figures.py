"""The paper's figures for whichever model is open: shown in Inspect, and taken away as picture, print or table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.components.chart import chart, shown
from app.components.controls import Shared
from app.components.follower import follow
from app.components.messages import explained
from app.figures.paper.boxes import BoxesPlate
from app.figures.paper.over_time import EtaPlate, RhoPlate
from app.figures.paper.plate import Plate
from app.figures.paper.salience import SaliencePlate
from app.services.correlations import correlations
from app.services.inspection import layer_view
from app.services.sites import require_layer
from app.services.spread import spread
from app.state import Selection, one_of
from app.tabs.inspect_files import download

if TYPE_CHECKING:
    from app.figures.export.plates import Kind

FOLLOWED = ("model", "layer", "timestep", "strength")
ALL = "all"


def create_paper_figures(shared: Shared) -> None:
    """One figure at a time, shut at first, with its files; and all of them on one sheet."""
    with gr.Accordion("The paper's figures, of this model", open=False, elem_id="paper-figures"):
        with gr.Row():
            titles = [(title, name) for name, (title, _) in FIGURES.items()]
            name = gr.Radio(titles, value="salience", label="Figure", elem_id="paper-figure", scale=3, min_width=300)
            log = gr.Checkbox(False, label="Logarithmic salience", elem_id="paper-log", scale=1, min_width=240)
        figure = chart("The chosen figure of the paper", 340)
        told = gr.Markdown(elem_classes="source", elem_id="paper-told")
        own: list[Any] = [name, log]
        follow(shared, FOLLOWED, draw, [figure, told], own=own, triggers=[name.change, log.change], instead=_instead)
        with gr.Row():
            for label, make in OFFERS.items():
                download(label, make, [*own, *shared.inputs], f"paper-{make.__name__.removeprefix('offer_')}")


def _salience(chosen: Selection, log: bool) -> Plate:
    view = layer_view(chosen.model, chosen.layer, False, False, chosen.strength)
    return SaliencePlate(activation=view.activation[view.nearest(chosen.timestep)], weight=view.weight, log=log)


def _boxes(chosen: Selection, log: bool) -> Plate:
    view = layer_view(chosen.model, chosen.layer, False, False, chosen.strength)
    return BoxesPlate(timesteps=view.timesteps, salience=view.activation, log=log, **vars(spread(view.activation)))


def _rho(chosen: Selection, _log: bool) -> Plate:
    found = correlations(chosen.model, chosen.strength)
    about: dict[str, Any] = {"layers": found.layers, "roles": found.roles, "timesteps": found.timesteps}
    return RhoPlate(**about, values=found.rho, chosen=chosen.layer)


def _eta(chosen: Selection, _log: bool) -> Plate:
    found = correlations(chosen.model, chosen.strength)
    about: dict[str, Any] = {"layers": found.layers, "roles": found.roles, "timesteps": found.timesteps}
    return EtaPlate(**about, values=found.eta, chosen=chosen.layer)


FIGURES: dict[str, tuple[str, Callable[[Selection, bool], Plate]]] = {
    "salience": ("Salience over channels", _salience),
    "boxes": ("Box plots over timesteps", _boxes),
    "rho": ("rho over timesteps, all layers", _rho),
    "eta": ("eta over timesteps, all layers", _eta),
}


def plate(name: str, log: bool, chosen: Selection) -> Plate:
    """One of the paper's figures for a selection. Raises ValueError for an unknown one, and for an unknown layer."""
    require_layer(chosen.model, chosen.layer)
    return FIGURES[one_of("figure", name, tuple(FIGURES))][1](chosen, log)


def draw(name: str, log: bool, *values: Any) -> list[Any]:
    """The chosen figure, and what it shows in words."""
    with explained():
        chosen = Selection.from_controls(*values)
        return [shown(plate(name, log, chosen).page()), caption([name], chosen)]


def offer_png(name: str, log: bool, *values: Any) -> Iterator[str]:
    """The chosen figure as a PNG picture; the file lasts until it has been taken over."""
    yield from _offer("png", [name], log, values)


def offer_svg(name: str, log: bool, *values: Any) -> Iterator[str]:
    """The chosen figure as an SVG drawing."""
    yield from _offer("svg", [name], log, values)


def offer_pdf(name: str, log: bool, *values: Any) -> Iterator[str]:
    """The chosen figure as a page for print."""
    yield from _offer("pdf", [name], log, values)


def offer_all(_name: str, log: bool, *values: Any) -> Iterator[str]:
    """All figures on one sheet."""
    yield from _offer("pdf", list(FIGURES), log, values)


def offer_csv(name: str, log: bool, *values: Any) -> Iterator[str]:
    """The chosen figure's data; the first line, a comment, says of what they are."""
    with explained(), TemporaryDirectory() as folder:
        chosen = Selection.from_controls(*values)
        found = plate(name, log, chosen)
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerows([[f"# {caption([name], chosen)}"], found.heading])
        writer.writerows([f"{cell:.7g}" if isinstance(cell, float) else cell for cell in row] for row in found.rows())
        yield _written(folder, name, chosen, "csv", text.getvalue().encode())


OFFERS: dict[str, Callable[..., Iterator[str]]] = {
    "Figure as PNG": offer_png,
    "Figure as SVG": offer_svg,
    "Figure as PDF": offer_pdf,
    "Its data as CSV": offer_csv,
    "All four as PDF": offer_all,
}


def caption(names: Sequence[str], chosen: Selection) -> str:
    """What the figures show, of which model."""
    view = layer_view(chosen.model, chosen.layer, False, False, chosen.strength)
    at = f"{view.timesteps[view.nearest(chosen.timestep)]:g}"
    dial = f", salience x {chosen.strength} (function unchanged)" if chosen.strength > 1 else ""
    layer, count = f"{chosen.layer} of {chosen.model}{dial}", len(view.weight)
    model = f"all {len(correlations(chosen.model, chosen.strength).layers)} layers of {chosen.model}{dial}"
    said = {
        "salience": f"Salience of the {count} input channels of {layer}, timestep {at}, before balancing (eq. 4)",
        "boxes": f"Activation salience of the {count} channels of {layer} at each timestep: quartiles, whiskers to 1.5 "
        "interquartile ranges, channels beyond as dots",
        "rho": f"Spearman's rho between activation and weight salience of {model}; {chosen.layer} in bold",
        "eta": f"What each timestep counts in SSC (eq. 11), of {model}; {chosen.layer} in bold",
    }
    return ". ".join(said[name] for name in names) + "."


def _offer(kind: Kind, names: list[str], log: bool, values: tuple[Any, ...]) -> Iterator[str]:
    from app.figures.export.plates import plates_file  # with matplotlib, which the first page need not wait for

    with explained(), TemporaryDirectory() as folder:
        chosen = Selection.from_controls(*values)
        content = plates_file([plate(name, log, chosen) for name in names], kind, caption(names, chosen))
        yield _written(folder, names[0] if len(names) == 1 else ALL, chosen, kind, content)


def _written(folder: str, name: str, chosen: Selection, kind: str, content: bytes) -> str:
    """The file, whose name says what is in it."""
    file = Path(folder) / f"{chosen.model}-{chosen.layer}-{name}-x{chosen.strength}.{kind}"
    file.write_bytes(content)
    return str(file)


def _instead(told: str) -> list[Any]:
    return [None, told]
