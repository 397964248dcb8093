"""What the Compare tab does when a control moves; named functions that need no server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from app.balancing import SWITCHES
from app.components.chart import shown
from app.components.messages import checked_by, explained, in_words
from app.components.pace import Pace
from app.services import generation, running
from app.services.drawing import require_subject
from app.services.generation import Frame
from app.services.request import DEFAULT_BITS, FLOAT_BITS, MOST_VARIANTS, SAMPLERS, Request, parse_variants
from app.services.shelf import entry
from app.state import Selection
from app.tabs import compare_view as view
from app.tabs.compare_files import write_zip

_NO_PICTURE = {"src": "", "name": "", "alt": ""}
NOTHING_DRAWN = {"left": _NO_PICTURE, "right": _NO_PICTURE}
NOTHING_MEASURED: dict[str, Any] = {"label": "Speed", "columns": ["Nothing measured yet"], "rows": []}
LINE_EVERY, CHART_EVERY = 0.25, 1.0  # seconds between two updates of the progress line and of the drift


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
    return Request(
        model=selection.model,
        prompt=selection.prompt,
        class_id=selection.class_id,
        seed=selection.seed,
        steps=selection.steps,
        guidance=selection.guidance,
        sampler=sampler,
        strength=selection.strength,
        variants=parse_variants(bits, selection.csb, selection.ssc, backend, selection.tokens),
    )


def _asked(bits: list[str], sampler: str, backend: str, gain: float, *values: Any) -> Request:
    """What `compare_live` is asked for."""
    selection = Selection.from_controls(*values)
    entry(selection.model)
    request = make_request(bits, sampler, backend, selection)
    require_subject(request)
    return request


@checked_by(_asked)
def compare_live(
    request: gr.Request, bits: list[str], sampler: str, backend: str, gain: float, *values: Any
) -> Iterator[list[Any]]:
    """Run a comparison and show it as it goes; the last update brings the numbers. A run under way gives way to it."""
    session = request.session_hash or ""
    with explained(), running.begin(session) as cancelled:
        asked = _asked(bits, sampler, backend, gain, *values)
        frame, pictures = Frame(request=asked, note="Starting"), None
        line, chart = Pace(LINE_EVERY), Pace(CHART_EVERY)
        for frame in generation.run(asked, cancelled):
            new = frame.step == 0 or frame.pictures is not pictures
            if not frame.finished and (new or line.due()):
                yield _going(frame, gain, new, charted=bool(frame.pictures) and chart.due()).outputs
                pictures = frame.pictures
        if not frame.finished:
            if running.is_last(session, cancelled):  # else another run of the session is shown already
                yield _cancelled(frame).outputs
            return
        generation.remember(frame)
        yield _finished(frame, gain).outputs


def _going(frame: Frame, gain: float, new_pictures: bool, charted: bool) -> Update:
    """Under way: progress, pictures when there are new ones, drift now and then."""
    progress, cancel = view.progress(frame), gr.update(interactive=True)
    if not new_pictures:
        return Update(progress=progress, cancel=cancel)
    return Update(
        progress=progress,
        cancel=cancel,
        cards=view.cards(frame, gain),
        details=gr.update(visible=True) if frame.pictures else gr.skip(),
        chart=shown(view.chart(frame)) if charted else gr.skip(),
        download=gr.update(interactive=False),
        finished=None,
    )


def _finished(frame: Frame, gain: float) -> Update:
    """Finished: everything; the files are made when somebody asks for them."""
    return Update(
        progress=view.progress(frame),
        cards=view.cards(frame, gain),
        details=gr.update(visible=True),
        table=view.numbers(frame),
        chart=shown(view.chart(frame)),
        against=gr.update(choices=view.wiped(frame.request), value=len(frame.request.variants) - 1),
        wipe=view.wipe(frame, len(frame.request.variants) - 1),
        download=gr.update(interactive=True),
        finished=frame.request,
    )


def _cancelled(frame: Frame) -> Update:
    """Cancelled: what there is stays, and says so."""
    note = f"Cancelled at step {frame.step} of {frame.request.steps}"
    return Update(progress=view.progress(frame) | {"note": note})


def start_anew(request: gr.Request, bits: list[str], *values: Any) -> list[Any]:
    """Another model was chosen: no picture and no number of the one before stays, and its run ends."""
    running.cancel(request.session_hash or "")
    selection = Selection.from_controls(*values)
    with explained():
        entry(selection.model)
        empty = Frame(request=make_request(bits, SAMPLERS[0], "simulated", selection), note="")
        return Update(
            progress=view.idle(selection.steps),
            cards=view.cards(empty, 1),
            details=gr.update(visible=False),
            table=view.numbers(empty),
            chart=shown(view.chart(empty)),
            download=gr.update(interactive=False),
            cancel=gr.update(interactive=False),
            against=gr.update(choices=[], value=None),
            wipe=NOTHING_DRAWN,
            finished=None,
        ).outputs


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


def line_up(by: str, bits: list[str], *values: Any) -> list[str]:
    """The variants to compare: different bits, the bar's among them; the bar's, balanced in each way; or both.

    Or with one scale for all tokens and one for each, without balancing and with.
    """
    selection = Selection.from_controls(*values)
    named = f"W{selection.weight_bits}A{selection.activation_bits}"
    balanced = [f"{named} {balancing}" for balancing in SWITCHES]
    if by == "balancing":
        return balanced
    if by == "scales":
        return [f"{named} {way} {scales}" for scales in ("tensor", "token") for way in ("none", "csb+ssc")]
    plain = [name for name in bits if " " not in name] or list(DEFAULT_BITS)
    if by == "both":
        return [*(name for name in plain if name != named), *balanced][-MOST_VARIANTS:]
    if named in plain or selection.weight_bits == selection.activation_bits == FLOAT_BITS:
        return plain
    return [*plain[:-1], named]
