"""The factorial of PTQ4DiT's parts: none, CSB, CSB + SSC, with and without reconstruction, static and dynamic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from app.figures.methods.ranking import Row
from app.figures.style import ACTIVATION, BALANCED, NEUTRAL, SPEARMAN, TEXT, axis, layout

LOOKS = ((NEUTRAL, "circle"), (ACTIVATION, "square"), (SPEARMAN, "diamond"), (BALANCED, "triangle-up"))


def factorial_figure(groups: Mapping[str, Mapping[str, Row]], title: str, *, height: int = 340) -> go.Figure:
    """A colour and a mark for each group, a place for each balancing; dots stand side by side with their intervals.

    groups: such as "static, nearest rounding" -> {"no balancing": Row, "CSB": ..., "CSB + SSC": ...}; title: of the
    value axis.
    """
    places = list(dict.fromkeys(place for rows in groups.values() for place in rows))
    figure = go.Figure(layout=layout(height, hovermode="closest", showlegend=True))
    for index, (name, rows) in enumerate(groups.items()):
        colour, mark = LOOKS[index % len(LOOKS)]
        aside = (index - (len(groups) - 1) / 2) * 0.16
        figure.add_scatter(
            x=[places.index(place) + aside for place in rows],
            y=[row.value for row in rows.values()],
            customdata=list(rows),
            meta={"x": list(rows)},
            name=name,
            mode="markers",
            marker={"color": colour, "symbol": mark, "size": 10},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [0 if row.high is None else row.high - row.value for row in rows.values()],
                "arrayminus": [0 if row.low is None else row.value - row.low for row in rows.values()],
                "color": TEXT,
                "thickness": 1.2,
                "width": 3,
            },
            hovertemplate="%{customdata}: %{y:.4g}",
        )
    ticks: dict[str, Any] = {"tickmode": "array", "tickvals": list(range(len(places))), "ticktext": places}
    figure.update_xaxes(axis(range=[-0.5, len(places) - 0.5], showgrid=False, zeroline=False, **ticks))
    figure.update_yaxes(axis(title))
    return figure
