"""Drift along the trajectory: how far each variant's latents have strayed from full precision, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from app.figures import style

COLOURS = (style.ACTIVATION, style.WEIGHT, style.BALANCED, style.SPEARMAN)
DASHES = ("solid", "dash", "dot", "dashdot")


def drift(error: Mapping[str, Sequence[float]], steps: int, *, height: int = 300) -> go.Figure:
    """Lines of the relative error of the latents over the sampling steps, on a logarithmic scale.

    Args:
        error: a name for each variant -> ``||z_q - z||^2 / ||z||^2`` after step 1, 2, ...; zeros are left out.
        steps: how many steps the whole run has, the width of the axis.
        height: in pixels.
    """
    figure = go.Figure()
    for index, (name, values) in enumerate(error.items()):
        around, colour = divmod(index, len(COLOURS))
        figure.add_scatter(
            x=list(range(1, len(values) + 1)),
            y=[value if value > 0 else None for value in values],
            name=name,
            mode="lines+markers",
            line={"color": COLOURS[colour], "width": 2.5, "dash": DASHES[(index + around) % len(DASHES)]},
            marker={"size": 5},
            hovertemplate="%{y:.2e}",
        )
    figure.update_layout(
        style.layout(
            height,
            xaxis=style.axis("step, from noise to picture", range=[0.5, max(steps, 2) + 0.5]),
            yaxis=style.axis("relative error of latents", type="log", exponentformat="power", dtick=1),
            showlegend=True,
        )
    )
    return figure
