"""One channel's doing, behind a pinned channel of Inspect: pictures from one noise, drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.context import Context

from app.components.messages import checked_by, explained
from app.components.pace import Pace
from app.components.part import html_part
from app.services import doing, running
from app.services.doing import Question
from app.services.drawing import require_subject
from app.services.loading import ModelMissing
from app.services.shelf import entry
from app.state import Selection, within
from app.tabs import doing_view as view
from app.tabs import inspect_data

EVERY = 0.3  # seconds between two words about how far it is
NOTHING = view.ended(0, "")
SCRIPTS = ("store", "inspector/core", "doing/grid")


def create_doing() -> None:
    """Build the card: the channel's place on the grid and what can be asked, then what is drawn."""
    with gr.Column(elem_id="doing", elem_classes="card"):
        asking = html_part(
            "doing",
            {},
            scripts=SCRIPTS,
            apply_default_css=False,
            elem_id="doing-ask",
            server_functions=[inspect_data.place, inspect_data.salient],
        )
        drawn = html_part(
            "doing_view", NOTHING, scripts=("store", "age", "inspector/core", "doing/curve"), apply_default_css=False
        )
    asking.select(
        draw,
        asking,
        drawn,
        show_progress="hidden",
        trigger_mode="multiple",  # asked again, it begins anew
        concurrency_limit=8,  # all who draw wait in one line of their own
        concurrency_id="channel",
        api_visibility="private",
    )
    asking.clear(cancel, None, None, queue=False, show_progress="hidden", api_visibility="private")
    if Context.root_block is not None:
        Context.root_block.unload(cancel)


def _asked(part: Any) -> tuple[Question, int]:
    """What the part asks for, and the number under which it does."""
    selection = Selection.from_part(part)
    entry(selection.model)
    ticket = within("ticket", part.get("ticket"), 0, 2**31)
    question = Question(selection=selection, gain=part.get("gain"), curve=part.get("curve"))
    require_subject(question.request)
    return question, ticket


@checked_by(_asked)
def draw(request: gr.Request, part: Any) -> Iterator[dict[str, Any]]:
    """Draw what is asked for, and show it as it goes; a drawing under way gives way to it."""
    session = _session(request)
    with explained(), running.begin(session) as cancelled:
        question, ticket = _asked(part)
        pace, drawn, finished = Pace(EVERY), 0, False
        try:
            for frame in doing.run(question, cancelled):
                if len(frame.drawn) > drawn or frame.finished or pace.due():
                    yield view.told(frame, ticket)
                drawn, finished = len(frame.drawn), frame.finished
        except (ValueError, ModelMissing) as problem:
            yield view.ended(ticket, str(problem))
            return
        if not finished and running.is_last(session, cancelled):  # else another drawing of the session is shown
            yield view.ended(ticket, f"Cancelled after {drawn} pictures; they are kept.")


def cancel(request: gr.Request) -> None:
    """Cancel the drawing of this session, if there is one; it stops within one step."""
    running.cancel(_session(request))


def _session(request: gr.Request) -> str:
    return f"{request.session_hash or ''}/channel"
