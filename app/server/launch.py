"""How the app is served: its look, its bounds. What of it is a setting of gradio's is one here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from app.server.card import routes, show_card
from app.server.doors import Doors
from app.server.guard import guard
from app.server.questions import Questions
from app.server.sessions import SESSIONS, bounded
from app.theme import look

QUEUED = 256  # questions that wait, of all visitors


def serve(page: gr.Blocks, once_up: Callable[[], None] = lambda: None) -> None:
    """Serve the page until the process is told to end.

    `once_up` is called when it answers: gradio gives up where its own first question waits for 3 seconds, so nothing
    else may have the processor until then.
    """
    guard(page)
    show_card()
    page.queue(max_size=QUEUED, api_open=False).launch(prevent_thread_lock=True, **options(page))
    once_up()
    page.block_thread()


def options(page: gr.Blocks) -> dict[str, Any]:
    """Keyword arguments for `gr.Blocks.launch`."""
    return look() | {
        "footer_links": ["api", "settings"],
        "run_history": False,
        "ssr_mode": False,
        "show_error": False,  # what a handler wants to be told comes as gr.Error
        "enable_monitoring": False,
        "max_file_size": "1kb",
        "state_session_capacity": SESSIONS,
        "app_kwargs": {
            "middleware": [Middleware(Doors, check=Questions(page))],
            "lifespan": bounded,
            "routes": routes(),
        },
    }
