"""The page: header, selection bar, tabs.

How a tab plugs in: `app/tabs/<name>.py` has `create_<name>_tab(shared: Shared) -> None`, called inside its `gr.Tab`.
`Shared` (app/components/controls.py) holds one control for each field of `app.state.Selection`:

- to follow the selection: `gr.on(shared.changed("layer", "csb", ...), handler, inputs=shared.inputs, outputs=[...],
  trigger_mode="always_last", api_visibility="private")`, and in the handler `Selection.from_controls(*values)`;
- to draw itself at first: `shared.opened.then(handler, ...)` once the page is open, or `gr.Tab.select`. Bind all
  triggers of a view to one `gr.on`: then a slow answer to an early change cannot overwrite a later one;
- to move it: name `shared.<field>` among a handler's outputs, and every view that listens follows;
- to show a control that its tab owns: `shared.<field>.render()`, once on the whole page.

Controls are a session's state; the server keeps of a visitor no more than small keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.components.bar import create_bar
from app.components.controls import Shared, make_controls
from app.components.lacking import create_lacking
from app.components.part import script
from app.content import words
from app.services import models, shelf
from app.tabs.compare import create_compare_tab
from app.tabs.data import create_data_tab
from app.tabs.inspect import create_inspect_tab
from app.tabs.learn import create_learn_tab
from app.tabs.methods import create_methods_tab
from app.tabs.start import create_start_tab

TABS: dict[str, Callable[[Shared], None]] = {
    "start": create_start_tab,
    "learn": create_learn_tab,
    "inspect": create_inspect_tab,
    "compare": create_compare_tab,
    "methods": create_methods_tab,
    "data": create_data_tab,
}
TITLES = {"data": "Data & API"}


def build() -> gr.Blocks:
    """The whole page; theme, style and bounds come with `app.server.launch.serve`."""
    with gr.Blocks(title="PTQ4DiT", analytics_enabled=False, delete_cache=(60, 600)) as page:
        shared = make_controls(page, models.outline(shelf.first().name))
        gr.Markdown(words("header"), elem_id="header")
        create_bar(shared)
        create_lacking()
        with gr.Tabs(elem_id="tabs") as tabs:
            for name, create in TABS.items():
                with gr.Tab(title(name), id=name, render_children=name == "compare") as tab:
                    create(shared)
                tab.select(None, js=f"() => ({script('show_tab')})('{name}')")
        opened = page.load(open_tab, None, tabs, queue=False, api_visibility="private", show_progress="hidden")
        titles = json.dumps({name: title(name) for name in TABS})
        opened.then(None, js=f"() => ({script('opened')})({titles}, {script('go_to_tab')})")
    return page


def title(name: str) -> str:
    """What stands on a tab."""
    return TITLES.get(name, name.capitalize())


def open_tab(request: gr.Request) -> Any:
    """Open the tab that the page's address names, if it names one."""
    name = request.query_params.get("tab")
    return gr.Tabs(selected=name) if name in TABS else gr.skip()
