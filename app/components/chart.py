"""A Plotly figure as the page shows it: without a tool bar, sized by its place."""

from __future__ import annotations

import gradio as gr
import plotly.graph_objects as go
from gradio.components.plot import PlotData
from plotly.io.json import to_json_plotly

_CONFIG = {"displayModeBar": False, "responsive": True, "doubleClick": False}


def chart(label: str, height: int, figure: go.Figure | None = None) -> gr.Plot:
    """A place for a figure, empty without one; it keeps its height while figures come and go.

    A figure that it begins with, however empty, has Plotly loaded before others are drawn as something goes on.
    """
    value = None if figure is None else shown(figure)
    return gr.Plot(value, label=label, show_label=False, container=False, elem_classes=["chart", f"chart-{height}"])


def shown(figure: go.Figure) -> PlotData:
    """The figure with the page's settings, as `gr.Plot` takes it."""
    return PlotData(type="plotly", plot=to_json_plotly(figure.to_plotly_json() | {"config": _CONFIG}))
