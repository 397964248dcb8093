"""How a view follows the selection: it is drawn anew when that moves, near what somebody sees and not elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.components.controls import Shared
from app.components.messages import explained
from app.components.part import html_part
from app.services.fitting import fit
from app.state import Selection


def follow(
    shared: Shared,
    fields: Sequence[str],
    draw: Callable[..., Any],
    outputs: Any,
    *,
    own: Sequence[gr.components.Component] = (),
    triggers: Sequence[Any] = (),
    instead: Callable[[str], Any] | None = None,
    linked: Sequence[str] = (),
) -> Dependency:
    """Draw when one of the selection's fields moves, when the view first comes near, and at its own triggers.

    Called where the view stands; gives the event that draws, for what comes after it. `draw` takes the values of its
    `own` controls, then those of the selection in field order. All of a view's triggers share one event, so that a slow
    answer never overwrites a later one; of many moves the last counts. `instead` gives the outputs that say, in the
    view's place, why it cannot be drawn; without it that is told beside the page. With `linked`, names of the tab's own
    controls, `draw` takes behind its own values what the page's link said of them when the page was opened: a dict of
    texts by name, None before the page has asked for anything.
    """
    start = asdict(fit(Selection(), shared.outline)[0])
    part = html_part(
        "follower", start, scripts=("store",), elem_classes="follower", fields=list(fields), linked=list(linked)
    )

    def drawn(*values: Any) -> Any:
        *mine, part = values
        with explained():
            selection = Selection.from_part(part)
        mine += [part.get("link")] if linked else []
        try:
            return draw(*mine, *vars(selection).values())
        except gr.Error as error:
            if instead is None:
                raise
            return instead(error.message)

    drawing: Dependency = gr.on(
        [part.select, *triggers],
        drawn,
        [*own, part],
        outputs,
        trigger_mode="always_last",
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return drawing
