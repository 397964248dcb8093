"""Inspect: one layer's salient channels, its timesteps and its quantization error, balanced or not."""

from __future__ import annotations

import gradio as gr

from app.components.controls import Shared
from app.components.part import html_part
from app.content import words
from app.content.code import template
from app.state import REFERRED
from app.tabs import channel_api, inspect_data
from app.tabs.doing import create_doing
from app.tabs.inspect_api import create_endpoints
from app.tabs.inspect_files import create_downloads
from app.tabs.paper_figures import create_paper_figures

SCRIPTS = (
    "store",
    "as_code",
    *(f"inspector/{name}" for name in ("core", "view", "reference", "channels", "time", "pairs", "effect", "hurts")),
    "inspector/overview",
)
QUESTIONS = (
    inspect_data.layer,
    inspect_data.effect,
    inspect_data.channel,
    inspect_data.overview,
    inspect_data.errors,
    inspect_data.hurts,
)


def create_inspect_tab(shared: Shared) -> None:
    """Build the tab: one part that follows the selection by itself, and what can be taken away."""
    gr.Markdown(words("inspect"))
    html_part(
        "inspector",
        {},
        scripts=SCRIPTS,
        apply_default_css=False,
        elem_id="inspector",
        server_functions=list(QUESTIONS),
        code=template(),
        referred=list(REFERRED),
    )
    create_doing()
    create_downloads(shared)
    create_paper_figures(shared)
    create_endpoints()
    channel_api.create_endpoint()
