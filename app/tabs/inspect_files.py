"""What a person takes away from Inspect: charts as they are seen, as pictures, for print and as data."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr

from app.balancing import way
from app.components.controls import Shared
from app.components.messages import explained
from app.figures.inspect.content import Content, Quiet
from app.look import LOOKS, Look
from app.state import BETWEEN, Selection, one_of
from app.tabs.inspect_content import content_of, view_of

if TYPE_CHECKING:
    from app.services.inspection import LayerView

TITLES = {
    "all": "all charts, on one sheet",
    "channels": "channels",
    "time": "rho and eta over time",
    "heatmap": "salience over channels and time",
    "pairs": "complementarity",
    "errors": "error over time",
    "channel-errors": "error of each channel",
}
TELL_LOOK = f"""(chart, look, ...values) => {{
  const query = new URLSearchParams(window.location.search);
  return [chart, {list(LOOKS)}.map((name) => query.get(name) ?? '').join('{BETWEEN}'), ...values];
}}"""
"""The reader's menus stand in the address; the files are told them."""


def create_downloads(shared: Shared) -> None:
    """Which chart, and as what."""
    with gr.Row(elem_id="inspect-files"):
        titles = [(title, name) for name, title in TITLES.items()]
        chart = gr.Dropdown(
            titles, value="all", label="Take away, as it is seen", elem_id="inspect-chart", min_width=220
        )
        look = gr.Textbox(BETWEEN * (len(LOOKS) - 1), visible=False)
        inputs = [chart, look, *shared.inputs]
        for label, make in (("PNG", offer_png), ("SVG", offer_svg), ("PDF", offer_pdf)):
            download(f"Charts as {label}", make, inputs, f"inspect-{label.lower()}", js=TELL_LOOK)
        download("Charts' data as CSV", offer_csv, inputs, "inspect-csv", js=TELL_LOOK)


def offer_csv(chart: str, look: str, *values: Any) -> Iterator[str]:
    """A CSV file of a chart, or of all that Inspect shows of the layer; it lasts until it has been taken over."""
    with explained(), TemporaryDirectory() as folder:
        selection, content = _asked(chart, look, values)
        file = Path(folder) / f"{_name(selection, chart)}.csv"
        with file.open("w", newline="", encoding="utf-8") as target:
            table = csv.writer(target)
            table.writerows([[f"# {content.title}"], ["series", "timestep", "channel", "value"]])
            table.writerows(_rows(chart, content, view_of(selection)))
        yield str(file)


def offer_png(chart: str, look: str, *values: Any) -> Iterator[str]:
    """A PNG picture of a chart, or of all charts, of the chosen layer."""
    yield from _offer_picture("png", chart, look, values)


def offer_svg(chart: str, look: str, *values: Any) -> Iterator[str]:
    """The same as an SVG drawing."""
    yield from _offer_picture("svg", chart, look, values)


def offer_pdf(chart: str, look: str, *values: Any) -> Iterator[str]:
    """The same for print."""
    yield from _offer_picture("pdf", chart, look, values)


def _offer_picture(kind: Literal["png", "svg", "pdf"], chart: str, look: str, values: tuple[Any, ...]) -> Iterator[str]:
    """A chart or the sheet of all; the file lasts until it has been taken over."""
    from app.figures.inspect.sheet import sheet_figure  # with matplotlib, which the first page need not wait for

    with explained(), TemporaryDirectory() as folder:
        selection, content = _asked(chart, look, values)
        file = Path(folder) / f"{_name(selection, chart)}.{kind}"
        sheet_figure(content, chart).savefig(file, dpi=150)
        yield str(file)


def download(
    label: str, make: Any, inputs: list[Any], elem_id: str, ready: bool = True, js: str | None = None
) -> gr.Button:
    """A button that makes a file when it is pressed and hands it to the browser; at first shut where not `ready`.

    js: what the browser makes of the inputs' values before they are sent.
    """
    button = gr.Button(label, size="sm", scale=0, min_width=150, elem_id=elem_id, interactive=ready)
    file = gr.DownloadButton(
        elem_classes="behind", elem_id=f"{elem_id}-file"
    )  # unseen by style: a card shows what it hid
    made = button.click(make, inputs, file, js=js, show_progress="minimal", api_visibility="private")
    made.success(None, js=f"() => document.getElementById('{elem_id}-file').click()")
    return button


def _asked(chart: str, look: str, values: Sequence[Any]) -> tuple[Selection, Content]:
    one_of("chart", chart, tuple(TITLES))
    selection = Selection.from_controls(*values)
    return selection, content_of(selection, Look.read(look))


def _name(selection: Selection, chart: str) -> str:
    """A file name that says what is in it."""
    bits = f"w{selection.weight_bits}a{selection.activation_bits}" + "-token" * selection.tokens
    which = "" if chart == "all" else f"-{chart}"
    way_ = way(selection.csb, selection.ssc)
    return f"{selection.model}-{selection.layer}-{bits}-{way_}-x{selection.strength}{which}"


def _rows(chart: str, content: Content, view: LayerView) -> Iterator[tuple[Any, ...]]:
    """Series, timestep, channel and value of what a chart shows, channels in its order; of all charts every number."""
    channels = range(len(view.weight)) if chart == "all" else content.order.tolist()
    if chart in ("all", "heatmap"):
        for name, salience in (("activation", view.activation), ("balanced_activation", view.balanced_activation)):
            for t, row in zip(view.timesteps, salience, strict=True):
                yield from ((name, t, j, _number(row[j])) for j in channels)
    if chart in ("channels", "pairs"):
        yield from (("activation", "", j, _number(content.activation[j])) for j in channels)
        if content.balanced is not None:
            yield from (("balanced_activation", "", j, _number(content.balanced[0][j])) for j in channels)
    if chart in ("all", "channels", "pairs"):
        for name, one in (("weight", view.weight), ("balanced_weight", view.balanced_weight), ("b_x", view.factors)):
            yield from ((name, "", j, _number(one[j])) for j in channels)
    over_time = (
        {"rho": view.rho, "rho_balanced": view.rho_balanced, "eta": view.weights} if chart in ("all", "time") else {}
    )
    if chart in ("all", "errors"):
        over_time |= {f"error {key}": values for key, values in content.errors_over_time.items()}
        yield from ((f"error {key}", "", "", _number(value)) for key, value in content.errors.items())
    for name, values in over_time.items():
        yield from ((name, t, "", _number(value)) for t, value in zip(view.timesteps, values, strict=True))
    if chart in ("all", "channel-errors"):
        for key, values in content.channel_errors.items():
            yield from ((f"channel error {key}", "", j, _number(values[j])) for j in channels)
    if content.quiet is not None:
        yield from _reference(chart, content.quiet)


def _reference(chart: str, quiet: Quiet) -> Iterator[tuple[Any, ...]]:
    """The reference's numbers beneath a chart, as its own switches leave them."""
    by_channel = (
        {"activation": quiet.activation, "weight": quiet.weight} if chart in ("all", "channels", "pairs") else {}
    )
    if chart in ("all", "channel-errors"):
        by_channel["channel error"] = quiet.channel_errors
    by_time = {"rho": quiet.rho, "eta": quiet.weights} if chart in ("all", "time") else {}
    if chart in ("all", "errors"):
        by_time["error"] = quiet.errors
    named = f"reference ({quiet.name})"
    for name, values in by_channel.items():
        yield from ((f"{named} {name}", "", j, _number(value)) for j, value in enumerate(values))
    for name, values in by_time.items():
        yield from ((f"{named} {name}", t, "", _number(v)) for t, v in zip(quiet.timesteps, values, strict=True))


def _number(value: float) -> str:
    return f"{value:.6g}"
