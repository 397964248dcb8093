"""How the app is served: its look, its bounds. What of it is a setting of gradio's is one here."""

from __future__ import annotations

from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from app.server.doors import Doors
from app.server.guard import guard
from app.server.questions import Questions
from app.server.sessions import SESSIONS, bounded
from app.theme import look

QUEUED = 256  # questions that wait, of all visitors


def serve(page: gr.Blocks) -> None:
    """Serve the page until the process is told to end."""
    guard(page)
    page.queue(max_size=QUEUED, api_open=False).launch(**options(page))


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
        "app_kwargs": {"middleware": [Middleware(Doors, check=Questions(page))], "lifespan": bounded},
    }
