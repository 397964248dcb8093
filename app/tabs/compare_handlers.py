"""What the Compare tab does when a control moves; named functions that need no server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app.components.chart import shown
from app.components.messages import checked_by, explained, in_words
from app.components.pace import Beat, paced
from app.services import generation, running
from app.services.drawing import require_subject
from app.services.generation import Frame
from app.services.loading import ModelMissing, is_loaded
from app.services.payloads import is_small
from app.services.request import SAMPLERS, Request, selected_variants
from app.services.shelf import entry
from app.state import Selection
from app.tabs import compare_line_up as line_up
from app.tabs import compare_view as view
from app.tabs.compare_files import write_zip

_NO_PICTURE = {"src": "", "name": "", "alt": ""}
NOTHING_DRAWN = {"left": _NO_PICTURE, "right": _NO_PICTURE}
NOTHING_MEASURED: dict[str, Any] = {"label": "Speed", "columns": ["Nothing measured yet"], "rows": []}


@dataclass(frozen=True, kw_only=True)
class Update:
    """New values of the tab's views; what is not named stays as it is."""

    progress: Any = field(default_factory=gr.skip)
    cards: Any = field(default_factory=gr.skip)
    details: Any = field(default_factory=gr.skip)
    table: Any = field(default_factory=gr.skip)
    chart: Any = field(default_factory=gr.skip)
    download: Any = field(default_factory=gr.skip)
    cancel: Any = field(default_factory=gr.skip)
    against: Any = field(default_factory=gr.skip)
    wipe: Any = field(default_factory=gr.skip)
    finished: Any = field(default_factory=gr.skip)

    @property
    def outputs(self) -> list[Any]:
        """The values in order."""
        return list(vars(self).values())


def make_request(bits: list[str], sampler: str, backend: str, selection: Selection) -> Request:
    """What the controls ask for. Raises ValueError where it cannot be generated."""
    return Request.of(selection, selected_variants(selection, bits, backend), sampler=sampler)


def _asked(bits: list[str], sampler: str, backend: str, gain: float, *values: Any) -> Request:
    """What `compare_live` is asked for."""
    selection = Selection.from_controls(*values)
    entry(selection.model)
    request = make_request(bits, sampler, backend, selection)
    require_subject(request)
    return request


def recall_first(bits: list[str], sampler: str, backend: str, gain: float, *values: Any) -> list[Any]:
    """The comparison that the tab opens with, where somebody's is kept; and whether the page is to begin it.

    It begins by itself where that takes seconds: of a demo model, and of a small one that is in memory.
    """
    selection = Selection.from_controls(*values)
    try:
        asked = _asked(bits, sampler, backend, gain, *values)
    except ValueError:  # a link asks for what cannot be drawn: told when Generate is pressed
        return [{"begin": False}, *Update().outputs]
    frame = generation.recall(asked)
    if frame is not None:
        made = view.made_for(asked, **line_up.own(bits, backend, selection))
        return [{"begin": False}, *_finished(frame, gain, made).outputs]
    try:
        quick = entry(asked.model).demo or (is_loaded(asked.model) and is_small(asked.model))
    except ModelMissing as error:
        return [{"begin": False}, *_impossible(error, selection.steps).outputs]
    return [{"begin": quick}, *Update().outputs]


@checked_by(_asked)
def compare_live(
    request: gr.Request, bits: list[str], sampler: str, backend: str, gain: float, *values: Any
) -> Iterator[list[Any]]:
    """Run a comparison and show it as it goes; the last update brings the numbers. A run under way gives way to it."""
    session = request.session_hash or ""
    with explained(), running.begin(session) as cancelled:
        asked = _asked(bits, sampler, backend, gain, *values)
        made = view.made_for(asked, **line_up.own(bits, backend, Selection.from_controls(*values)))
        try:
            for beat in paced(generation.run(asked, cancelled)):
                if beat.cancelled and not running.is_last(session, cancelled):
                    return  # another run of the session is shown already
                if beat.frame.finished:
                    generation.remember(beat.frame)
                yield _update(beat, gain, made).outputs
        except (ValueError, ModelMissing) as error:  # in its place, and not over what there is
            yield _impossible(error, asked.steps).outputs


def _impossible(error: Exception, steps: int) -> Update:
    """Nothing runs, and what stands in the way is said where a run would say how far it is."""
    return Update(progress=view.idle(steps, in_words(error)), cancel=gr.update(interactive=False))


def _update(beat: Beat, gain: float, made: dict[str, Any]) -> Update:
    """What is new at a moment of a run."""
    frame, progress, cancel = beat.frame, view.progress(beat.frame) | made, gr.update(interactive=True)
    if beat.cancelled:  # what there is stays, and says so
        return Update(progress=progress | {"note": f"Cancelled at step {frame.step} of {frame.request.steps}"})
    if frame.finished:
        return _finished(frame, gain, made)
    if beat.first:
        return _nothing(frame, progress=progress, cancel=cancel)
    return Update(
        progress=progress,
        cancel=cancel,
        cards=view.cards(frame, gain) | made if beat.pictures else gr.skip(),
        chart=shown(view.chart(frame)) if beat.chart else gr.skip(),
    )


def _finished(frame: Frame, gain: float, made: dict[str, Any]) -> Update:
    """Finished: everything; the files are made when somebody asks for them."""
    return Update(
        progress=view.progress(frame) | made,
        cards=view.cards(frame, gain) | made,
        details=gr.update(visible=True),
        table=view.numbers(frame),
        chart=shown(view.chart(frame)),
        against=gr.update(choices=view.wiped(frame.request), value=len(frame.request.variants) - 1),
        wipe=view.wipe(frame, len(frame.request.variants) - 1) | made,
        download=gr.update(interactive=True),
        finished=frame.request,
    )


def _nothing(frame: Frame, progress: dict[str, Any], cancel: dict[str, Any]) -> Update:
    """Nothing of a run before: no picture, no number, no file."""
    return Update(
        progress=progress,
        cards=view.cards(frame, 1) | view.NOTHING_ASKED,
        details=gr.update(visible=False),
        table=view.numbers(frame),
        chart=shown(view.empty_chart(frame.request.steps)),
        download=gr.update(interactive=False),
        cancel=cancel,
        against=gr.update(choices=[], value=None),
        wipe=NOTHING_DRAWN,
        finished=None,
    )


def start_anew(request: gr.Request, bits: list[str], *values: Any) -> list[Any]:
    """Another model was chosen: no picture and no number of the one before stays, and its run ends."""
    running.cancel(request.session_hash or "")
    selection = Selection.from_controls(*values)
    with explained():
        entry(selection.model)
        empty = Frame(request=make_request(bits, SAMPLERS[0], "simulated", selection), note="")
        return _nothing(empty, view.idle(selection.steps), gr.update(interactive=False)).outputs


def draw_speed(*values: Any) -> list[Any]:
    """The stored speed table of the chosen model, and what made it; where there is none, how to measure it."""
    try:
        measured = view.stored_speed(Selection.from_controls(*values).model)
    except ValueError as error:
        return [NOTHING_MEASURED, in_words(error)]
    return [measured, measured["source"]]


def cancel_run(request: gr.Request) -> None:
    """Cancel the run of this session, if there is one; it stops within one step."""
    running.cancel(request.session_hash or "")


def offer_zip(gain: float, finished: Request | None) -> Iterator[str]:
    """The last finished comparison as a zip file, which lasts until it has been taken over."""
    with explained(), TemporaryDirectory() as folder:
        frame = generation.recall(finished) if finished else None
        if frame is None:
            raise ValueError("download: expected a finished comparison; got none that is still kept. Generate it again")
        yield str(write_zip(frame, gain, Path(folder)))


def regain(gain: float, finished: Request | None) -> Any:
    """The cards of the last finished comparison, with difference maps at another gain."""
    frame = generation.recall(finished) if finished else None
    return gr.skip() if frame is None else view.cards(frame, gain)


def slide(index: int, finished: Request | None) -> Any:
    """The slider with another variant of the last finished comparison on its right."""
    frame = generation.recall(finished) if finished else None
    return gr.skip() if frame is None or index is None else view.wipe(frame, index)
