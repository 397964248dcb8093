"""Live comparison: one noise denoised by several variants of the model, step by step and side by side.

The variants advance in lock-step, so that their distance along the trajectory and their intermediate pictures come as
they happen. Whoever takes the frames may stop at any of them; a set `cancelled` stops the run within one step.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from threading import Event, Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.services.contenders import contender, making, megabytes
from app.services.drawing import DRAWING, LONGEST, require_subject, subject
from app.services.gpu import Refused, on_gpu
from app.services.loading import is_loaded
from app.services.request import Request, selected_variants
from app.services.shelf import entry
from app.services.workpiece import POLL
from app.state import Selection

if TYPE_CHECKING:
    from torch import Tensor

    from ptq4dit import Dit
    from ptq4dit.sampling.denoise import DenoiseState

PREVIEW_SECONDS = 0.25  # between two intermediate pictures; decoding one takes a fraction of it
FINISHED_RUNS = 128  # kept for all visitors, about 100 kB each
GPU_START, GPU_STEP = 10.0, 0.2  # seconds that a GPU is asked for: to bring the models there; a step of one of them

Image = NDArray[np.uint8]

_keeping = Lock()
_finished: dict[Request, Frame] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """The comparison at one moment; tuples hold one entry a contender, or one a variant without full precision.

    step: 0 while models are made ready, then 1..steps. pictures: (height, width, 3), the clean picture that each
    contender foresees, None before the first preview. timesteps: those passed. drift: a variant's relative error
    ||z_q - z||^2 / ||z||^2 of the latents at each of them. psnr, ssim: against full precision, empty until finished.
    """

    request: Request
    note: str
    step: int = 0
    pictures: tuple[Image, ...] | None = None
    timesteps: tuple[int | float, ...] = ()
    drift: tuple[tuple[float, ...], ...] = ()
    psnr: tuple[float, ...] = ()
    ssim: tuple[float, ...] = ()
    milliseconds: tuple[float, ...] = ()
    megabytes: tuple[float, ...] = ()
    seconds: float = 0.0
    finished: bool = False


def run(request: Request, cancelled: Event | None = None) -> Iterator[Frame]:
    """A frame for each model made ready and each step, then a finished one; ends early once `cancelled` is set.

    Each frame comes soon after the one before, whatever it waits for, so that whoever leaves is noticed.
    Raises ValueError for a class or prompt that the model cannot draw and for a run that takes too long,
    ModelMissing where there is no model, Full where too many wait already.
    """
    stop = cancelled or Event()
    begun = time.monotonic()
    require_subject(request)
    yield Frame(request=request, note="Starting")
    while not is_loaded(request.model, within=POLL):
        if stop.is_set():
            return
        yield Frame(request=request, note="Loading the model", seconds=time.monotonic() - begun)
    require_subject(request)  # now that the model itself says what it draws
    models = yield from _ready(request, stop, begun)
    if models is None:
        return
    sizes = tuple(megabytes(request.model, variant, request.strength) for variant in request.contenders)
    for frame in _in_turn(models, Frame(request=request, note="Starting", megabytes=sizes), stop):
        yield replace(frame, seconds=time.monotonic() - begun)


def _in_turn(models: list[Dit], start: Frame, stop: Event, *, alone: bool = False) -> Iterator[Frame]:
    """The frames of a drawing, once it is its turn, with a frame for each word until then. Raises Full, ValueError."""
    place, spent = DRAWING.place(), None
    try:
        for words in DRAWING.turn(place, stop):
            yield replace(start, note=f"Waiting to draw: {words}")
        begun = time.monotonic()
        for frame in _drawn(models, start, stop, alone=alone):
            seconds = time.monotonic() - begun
            if frame.step:
                place.seconds_left = seconds / frame.step * (start.request.steps - frame.step)
            if seconds > LONGEST and not frame.finished:
                raise ValueError(
                    f"steps: expected a run of at most {LONGEST:g} s; this one came to step {frame.step} of "
                    f"{start.request.steps}. Choose fewer steps or variants"
                )
            spent = seconds if frame.finished else None
            yield frame
    finally:
        DRAWING.leave(place, spent)


def _ready(request: Request, stop: Event, begun: float) -> Generator[Frame, None, list[Dit] | None]:
    """The contenders' models, with a frame for each word about one that is being made; None once `stop` is set."""
    models = []
    for variant in request.contenders:
        note = f"Preparing {variant.label}"
        yield Frame(request=request, note=note, seconds=time.monotonic() - begun)
        with closing(making(request.model, variant, request.strength, stop)) as words:
            while True:
                try:
                    word = next(words)
                except StopIteration as made:
                    model = made.value
                    break
                told = f"{note}: {word}" if word else note
                yield Frame(request=request, note=told, seconds=time.monotonic() - begun)
        if model is None:
            return None
        models.append(model)
    return models


def single(request: Request) -> Image:
    """The picture of the request's last contender alone. Raises as `run` does."""
    require_subject(request)
    model = contender(request.model, request.contenders[-1], request.strength)
    *_, last = _in_turn([model], Frame(request=request, note="Starting"), Event(), alone=True)
    assert last.pictures is not None
    return last.pictures[0]


def remember(frame: Frame) -> None:
    """Keep a finished comparison for all visitors, in place of the oldest one when there are many."""
    with _keeping:
        _finished.pop(frame.request, None)
        _finished[frame.request] = frame
        while len(_finished) > FINISHED_RUNS:
            del _finished[next(iter(_finished))]


def recall(request: Request) -> Frame | None:
    """The finished comparison of a request, where it is still kept."""
    return _finished.get(request)


def prepare(start: Selection) -> None:
    """Make the variants that Compare opens with, so that the first run waits for nothing; of a demo that run, too.

    Not where a Space lends a GPU: that is lent to a visitor, for what the visitor asks.
    """
    request = Request.of(start, selected_variants(start))
    for variant in request.variants:
        contender(start.model, variant, start.strength)
    if entry(start.model).demo and _by_gpu is None:
        with suppress(ValueError):  # too many wait, or it takes too long: then it is drawn when it is asked for
            *_, last = run(request)
            remember(last)


def _drawn(models: list[Dit], start: Frame, stop: Event, *, alone: bool = False) -> Iterator[Frame]:
    """The frames of a drawing by a Space's GPU where it lends one, else here; `alone`: the last contender's, unseen."""
    if _by_gpu is not None:
        try:
            for frame in _by_gpu(start, alone):
                if stop.is_set():
                    return
                yield frame
            return
        except Refused:
            yield replace(start, note="No GPU is free; drawing without")
    yield from _denoise(models, start, stop, previews=not alone)


def _frames(start: Frame, alone: bool, device: str) -> Iterator[Frame]:
    """The same on a device of this process: what a Space runs where its GPU is."""
    request = start.request
    chosen = request.contenders[-1:] if alone else request.contenders
    models = [_moved(contender(request.model, variant, request.strength), device) for variant in chosen]
    yield from _denoise(models, start, Event(), previews=not alone)


def _moved(model: Dit, device: str) -> Dit:
    """A model on a device; what runs integers is built anew for it."""
    from ptq4dit.backends.dispatch import with_backend

    record = getattr(model.transformer, "ptq4dit_record", None)
    if record is None or record.config.backend == "simulated":
        return model.to(device)
    moved: Dit = with_backend(with_backend(model, "simulated").to(device), record.config.backend)
    return moved


def _gpu_seconds(start: Frame, alone: bool) -> float:
    """How long a GPU is asked for."""
    return GPU_START + GPU_STEP * start.request.steps * (1 if alone else len(start.request.contenders))


_by_gpu = on_gpu(_frames, _gpu_seconds)


def _denoise(contenders: list[Dit], frame: Frame, stop: Event, *, previews: bool = True) -> Iterator[Frame]:
    last = frame.request.steps
    runs = [_Clocked(_trajectory(model, frame.request, stop)) for model in contenders]
    next_preview = 0.0 if previews else math.inf
    for states in zip(*runs, strict=False):
        frame = replace(_advance(frame, states), milliseconds=tuple(run.milliseconds for run in runs))
        if frame.step == last:
            yield _finish(contenders[0], frame, states)
            return
        if time.monotonic() >= next_preview:
            foreseen = _decode(contenders[0], [state.denoised for state in states])
            frame = replace(frame, pictures=_pixels(foreseen))
            next_preview = time.monotonic() + PREVIEW_SECONDS
        yield frame


class _Clocked:
    """Steps of a trajectory, and how long each took."""

    def __init__(self, states: Iterator[DenoiseState]) -> None:
        self._states = states
        self._seconds: list[float] = []

    def __iter__(self) -> _Clocked:
        return self

    def __next__(self) -> DenoiseState:
        begun = time.perf_counter()
        state = next(self._states)
        self._seconds.append(time.perf_counter() - begun)
        return state

    @property
    def milliseconds(self) -> float:
        """Median of the steps so far."""
        return 1000 * statistics.median(self._seconds)


def _trajectory(model: Dit, request: Request, stop: Event) -> Iterator[DenoiseState]:
    from ptq4dit.sampling.denoise import denoise

    return denoise(
        model,
        steps=request.steps,
        guidance_scale=request.guidance,
        seed=request.seed,
        cancelled=stop.is_set,
        **subject(model, request),
    )


def _advance(frame: Frame, states: tuple[DenoiseState, ...]) -> Frame:
    """The frame one step on, with the drift of each variant's latents from those of full precision."""
    from ptq4dit.metrics.tensor import relative_error

    now = [relative_error(states[0].latents, state.latents) for state in states[1:]]
    before = frame.drift or ((),) * len(now)
    return replace(
        frame,
        step=states[0].step,
        note=f"Step {states[0].step} of {frame.request.steps}",
        timesteps=(*frame.timesteps, _plain(states[0].timestep)),
        drift=tuple((*old, new) for old, new in zip(before, now, strict=True)),
    )


def _plain(timestep: int | float) -> int | float:
    """A timestep without needless decimals; models of flow matching are given fractions."""
    return int(timestep) if timestep == int(timestep) else round(float(timestep), 2)


def _finish(model: Dit, frame: Frame, states: tuple[DenoiseState, ...]) -> Frame:
    """The last frame: the pictures as they came out, and their distance to the one of full precision."""
    from ptq4dit.metrics.image import psnr, ssim

    decoded = _decode(model, [state.latents for state in states])
    reference, others = decoded[:1].expand_as(decoded[1:]), decoded[1:]
    return replace(
        frame,
        note="Finished",
        pictures=_pixels(decoded),
        psnr=tuple(psnr(others, reference).tolist()) if len(others) else (),
        ssim=tuple(ssim(others, reference).tolist()) if len(others) else (),
        finished=True,
    )


def _decode(model: Dit, latents: list[Tensor]) -> Tensor:
    """(contender, 3, height, width) in [0, 1]; one by one, so that no pixel depends on who else is drawn."""
    import torch

    from ptq4dit.sampling.denoise import decode

    return torch.cat([decode(model, one) for one in latents])


def _pixels(pictures: Tensor) -> tuple[Image, ...]:
    return tuple((pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
