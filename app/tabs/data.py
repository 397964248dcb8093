"""Data & API: every chart as a file, where each number comes from, how a program asks, the paper and the limits."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components.chart import chart
from app.components.controls import Shared
from app.components.follower import follow
from app.components.part import html_part
from app.content import words
from app.content.code import template
from app.state import FIELDS
from app.tabs import data_handlers as handlers
from app.tabs.inspect_files import download


def create_data_tab(shared: Shared) -> None:
    """Build the tab: a chart with its downloads, the files of results, the client's snippet, paper and limits."""
    gr.Markdown(words("data"))
    with gr.Column(elem_classes="card", elem_id="data"):
        gr.Markdown("### Charts, for what is chosen in the bar above")
        chosen = gr.Dropdown(handlers.titles(), value="methods-ranking", label="Chart", elem_id="data-chart")
        figure = chart("The chosen chart", 340)
        provenance = gr.Markdown(elem_classes="source", elem_id="data-source")
        with gr.Row():
            download("Data as CSV", handlers.offer_csv, [chosen, *shared.inputs], "data-csv")
            download("Chart as PNG", handlers.offer_png, [chosen, *shared.inputs], "data-png")
            download("Chart as SVG", handlers.offer_svg, [chosen, *shared.inputs], "data-svg")
            download("Chart as PDF", handlers.offer_pdf, [chosen, *shared.inputs], "data-pdf")
        views = [figure, provenance]
        moved: dict[str, Any] = {"own": [chosen], "triggers": [chosen.change], "instead": lambda told: [None, told]}
        follow(shared, FIELDS, handlers.preview, views, **moved)
    with gr.Column(elem_classes="card"):
        gr.Markdown("### Where the numbers come from\nEach file is written by one command of the repository.")
        files = html_part("table", handlers.files(shared.outline.name), elem_id="data-files")
    with gr.Column(elem_classes="card", elem_id="data-feel"):
        gr.Markdown("### How fast the app answers\nApp, browser and visitors on one machine, integer backend.")
        felt = handlers.feel(shared.outline.name)
        views = [files, html_part("table", felt), gr.Markdown(felt["source"], elem_classes="source")]
        follow(shared, ("model",), handlers.draw_files, views)
    with gr.Column(elem_classes="card", elem_id="data-api"):
        gr.Markdown(
            "### Ask from a program\nWhat the page shows, a program can ask for: `pip install gradio_client`. With "
            "the selection of the bar above and this page's address; `/channel` answers with one channel and its link."
        )
        html_part(
            "code",
            {},
            scripts=("store", "as_code"),
            apply_default_css=False,
            elem_id="data-client",
            code=template(),
        )
        gr.Markdown(
            "All endpoints with their arguments stand under *Use via API* at the foot of the page. As tools of an MCP "
            "server: `pip install 'gradio[mcp]'`, then `GRADIO_MCP_SERVER=True python app.py`."
        )
    with gr.Column(elem_classes="card", elem_id="data-paper"):
        gr.Markdown(words("paper"))
        gr.Markdown(words("limits"), elem_id="data-limits")
    gr.api(handlers.chart_data, api_name="chart_data", concurrency_limit=4, concurrency_id="look-up")
