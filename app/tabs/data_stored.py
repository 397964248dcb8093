"""Charts of stored results that only Data & API draws: balancing at stored bits, and the salience dial."""

from __future__ import annotations

import plotly.graph_objects as go

from app.balancing import NAMES, SWITCHES, WAYS, way
from app.figures.drift import DASHES
from app.figures.inspect.error import COLOURS
from app.figures.style import NEUTRAL, axis, layout
from app.services.result_files import model_results
from app.services.shelf import entry
from app.services.stored import Choice, load_results
from app.state import Selection
from app.tabs.start_view import nearest


def start_figure(selection: Selection) -> go.Figure:
    """Mean PSNR of each balancing at the stored choice nearest to the selection."""
    results = load_results(selection.model)
    near = nearest(results, selection)
    choices = [Choice(bits=near.bits, strength=near.strength, csb=csb, ssc=ssc) for csb, ssc in SWITCHES.values()]
    figure = go.Figure(layout=layout(300, yaxis=axis("PSNR, dB, simulated"), xaxis=axis(f"{near.bits}")))
    figure.add_bar(
        name=f"{near.bits}, salience x {near.strength}",
        x=[NAMES[name] for name in WAYS],
        y=[results.mean(choice).psnr for choice in choices],
        marker={"color": [COLOURS[name] for name in WAYS]},
    )
    return figure


def dial_figure(selection: Selection) -> go.Figure:
    """Mean PSNR over the salience dial for each balancing, at the stored bits nearest to the selection.

    The point nearest to the selection is marked "you are here".
    """
    how = f"python assets/recipes/dial.py --model {entry(selection.model).told}"
    means = model_results(selection.model, "dial.json", how)["means"]
    stored = dict.fromkeys(key.split("/")[0] for key in means)

    def far(name: str) -> int:
        weight, activation = (int(n) for n in name.removeprefix("W").split("A"))
        return 10 * abs(weight - selection.weight_bits) + abs(activation - selection.activation_bits)

    bits = min(stored, key=far)
    dial = sorted({int(key.split("/")[1].removeprefix("x")) for key in means})
    titles = {"xaxis": axis("salience dial", type="log", tickvals=dial, ticktext=[f"x {n}" for n in dial])}
    figure = go.Figure(layout=layout(320, yaxis=axis(f"PSNR at {bits}, dB, simulated"), **titles))
    for name, dash in zip(WAYS, DASHES, strict=False):
        points = [(n, means[f"{bits}/x{n}/{name}"]["psnr"]) for n in dial if f"{bits}/x{n}/{name}" in means]
        figure.add_scatter(
            x=[n for n, _ in points],
            y=[psnr for _, psnr in points],
            name=NAMES[name],
            mode="lines+markers",
            line={"color": COLOURS[name], "dash": dash},
        )
    here, chosen = min(dial, key=lambda n: abs(n - selection.strength)), way(selection.csb, selection.ssc)
    if (key := f"{bits}/x{here}/{chosen}") in means:
        ring = {"symbol": "circle-open", "size": 16, "color": NEUTRAL, "line": {"width": 2}}
        figure.add_scatter(x=[here], y=[means[key]["psnr"]], name="you are here", mode="markers", marker=ring)
    return figure
