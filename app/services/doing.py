"""One channel's doing: pictures from one noise, drawn by a model in which one layer, or one channel of it, is changed.

Each picture is drawn once, in the line of all that is drawn, by whoever asks first, and kept with the model.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any

from app.services.channel_grid import require_channel
from app.services.drawing import DRAWING, LONGEST, require_subject, subject
from app.services.loading import is_loaded
from app.services.models import explored, outline
from app.services.payloads import is_small
from app.services.request import FLOAT_BITS, Request
from app.services.sites import site
from app.services.takes import EVERY, Take, album, changed
from app.services.workpiece import POLL
from app.state import Selection, one_of, within

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 8  # of every picture here: enough to see what goes wrong
KEPT = (0, 1, 2, 4, 8, 16, 32)  # so many of the most salient channels stay in float on the curve
SEEDS = 4  # pictures that a point of the curve is the mean of
LARGEST_GAIN = 8.0
CURVES = ("", "layer", "all")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a pinned channel: the selection, and what else is to be drawn.

    gain: what the channel is multiplied by in full precision, 0 to 8; curve: "layer" or "all" for the curve of kept
    channels in this layer or in every layer, "" for none. Raises ValueError for anything else.
    """

    selection: Selection
    gain: float = 1.0
    curve: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn of any model."""
        object.__setattr__(self, "gain", within("gain", self.gain, 0.0, LARGEST_GAIN))
        object.__setattr__(self, "curve", one_of("curve", self.curve, CURVES))
        if self.selection.channel < 0:
            raise ValueError("channel: expected a pinned one; got none. Click one in any chart of Inspect")

    @property
    def request(self) -> Request:
        """The picture, as Compare would be asked for it."""
        return Request.of(self.selection, steps=STEPS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What one take gave: (n, 3, height, width) in [0, 1], and each one's PSNR against full precision, inf if equal."""

    take: Take
    pictures: Tensor
    psnr: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """All that is drawn so far, by name: "float", "rounded", "spared", "balanced", "scaled"; "line", "top/8"."""

    question: Question
    note: str
    done: float = 0.0
    total: int = 0
    drawn: dict[str, Drawn] = field(default_factory=dict)
    finished: bool = False


def plan(question: Question) -> dict[str, Take]:
    """The takes of a question by name, full precision first. The model has to be loaded.

    Raises ValueError for a layer or channel that it lacks, and for a curve that would take it too long.
    """
    chosen, request = question.selection, question.request
    require_channel(chosen.model, chosen.layer, chosen.channel)
    bits = chosen.weight_bits, chosen.activation_bits
    takes = {"float": Take(request=request)}
    if bits != (FLOAT_BITS, FLOAT_BITS):
        rounded = Take(request=request, scope=chosen.layer, bits=bits, tokens=chosen.tokens)
        takes |= {"rounded": rounded, "spared": replace(rounded, kept=(chosen.channel,))}
        if site(chosen.model, chosen.layer).balanced:
            takes["balanced"] = replace(rounded, balanced=True)
    if question.gain != 1:
        scaled = Take(request=request, scope=chosen.layer, channel=chosen.channel, gain=question.gain)
        takes["scaled"] = scaled
    return takes | (_curve(question, bits) if question.curve and bits != (FLOAT_BITS, FLOAT_BITS) else {})


def _curve(question: Question, bits: tuple[int, int]) -> dict[str, Take]:
    """PSNR over the number of channels that stay in float, and the line of CSB + SSC."""
    chosen, every = question.selection, question.curve == "all"
    small = is_small(chosen.model)
    if every and not small:
        raise ValueError(
            f"curve: rounding every layer of {chosen.model} once for each point would take minutes here, so the curve "
            "is drawn for this layer alone"
        )
    pictures = SEEDS if small and not outline(chosen.model).prompted else 1
    start = Take(
        request=question.request,
        pictures=pictures,
        scope=EVERY if every else chosen.layer,
        bits=bits,
        tokens=chosen.tokens,
    )
    takes = {"curve": Take(request=question.request, pictures=pictures)}
    if every or site(chosen.model, chosen.layer).balanced:
        takes["line"] = replace(start, balanced=True)
    widest = max(int(rows.shape[-1]) for rows in _rows(chosen.model, start.scope))
    return takes | {f"top/{count}": replace(start, top=count) for count in KEPT if count <= widest}


def _rows(model: str, scope: str) -> list[Any]:
    samples = explored(model).stats.samples
    return list(samples.values()) if scope == EVERY else [samples[scope]]


def run(question: Question, cancelled: Event | None = None) -> Iterator[Frame]:
    """A frame whenever there is news, the last one finished; ends early, within a step, once `cancelled` is set.

    Raises ValueError and ModelMissing for what cannot be drawn, Full where too many wait already.
    """
    stop, frame = cancelled or Event(), Frame(question=question, note="Starting")
    model, request = question.selection.model, question.request
    require_subject(request)
    yield frame
    while not is_loaded(model, within=POLL):
        if stop.is_set():
            return
        yield replace(frame, note="Loading the model")
    require_subject(request)
    takes = plan(question)
    frame = replace(frame, total=len(takes))
    for number, (name, take) in enumerate(takes.items()):
        pictures = album(model).get(take)
        if pictures is None:
            pictures = yield from _in_turn(replace(frame, done=float(number)), take, stop)
        if pictures is None:
            return
        frame = _with(frame, name, take, pictures)
        yield replace(frame, done=number + 1.0, note=f"{number + 1} of {len(takes)} drawn")
    yield replace(frame, done=float(len(takes)), note="Finished", finished=True)


def _with(frame: Frame, name: str, take: Take, pictures: Tensor) -> Frame:
    """The frame with one more drawing, held against full precision from the same noise."""
    from ptq4dit.metrics.image import psnr

    reference = frame.drawn.get("curve" if name == "line" or name.startswith("top/") else "float")
    against = () if reference is None or name == "curve" else tuple(psnr(pictures, reference.pictures).tolist())
    return replace(frame, drawn=frame.drawn | {name: Drawn(take=take, pictures=pictures, psnr=against)})


def _in_turn(frame: Frame, take: Take, stop: Event) -> Generator[Frame, None, Tensor | None]:
    """One drawing, once it is its turn in the line of all; None once `stop` is set. Raises Full, ValueError."""
    place, spent = DRAWING.place(), None
    number = f"{int(frame.done) + 1} of {frame.total}"
    try:
        for words in DRAWING.turn(place, stop):
            yield replace(frame, note=f"Waiting to draw {number}: {words}")
        if stop.is_set():
            return None
        yield replace(frame, note=f"Drawing {number}")
        begun = time.monotonic()
        steps = _draw(take, stop)
        while True:
            try:
                step = next(steps)
            except StopIteration as drawn:
                pictures: Tensor | None = drawn.value
                break
            seconds = time.monotonic() - begun
            place.seconds_left = seconds / step * (STEPS - step)
            if seconds > LONGEST:
                raise ValueError(f"Expected a picture within {LONGEST:g} s; {take.request.model} takes longer here.")
            yield replace(frame, note=f"Drawing {number}, step {step} of {STEPS}", done=frame.done + step / STEPS)
        spent = time.monotonic() - begun
        if pictures is not None:
            album(take.request.model).put(take, pictures)
        return pictures
    finally:
        DRAWING.leave(place, spent)


def _draw(take: Take, stop: Event) -> Generator[int, None, Tensor | None]:
    """(n, 3, height, width) in [0, 1], with a word after each step; None once `stop` is set."""
    from ptq4dit.sampling.denoise import decode, denoise

    request, last = take.request, None
    bundle = changed(take)
    what = subject(bundle, request, take.pictures)
    for state in denoise(
        bundle, steps=STEPS, guidance_scale=request.guidance, seed=request.seed, cancelled=stop.is_set, **what
    ):
        last = state
        yield state.step
    return None if last is None or stop.is_set() else decode(bundle, last.latents).cpu()
