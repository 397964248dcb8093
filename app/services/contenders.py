"""The models that are compared: each quantized once, by whoever asks first, and kept for all visitors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from threading import Event
from typing import TYPE_CHECKING, Any

from app.services.cache import shared
from app.services.effect import granularity
from app.services.loading import opened
from app.services.models import explored
from app.services.request import Variant
from app.services.stored_benchmark import load_benchmark
from app.services.workpiece import Line, Tell, Workpiece

if TYPE_CHECKING:
    from ptq4dit import Dit, ReconstructionConfig, Trajectories

LONGEST = 1800.0  # seconds that one model may be made, its learning included
QUANTIZED_MODELS = 16  # kept for all visitors, about 50 MB each
ROUNDED = Line(width=2, longest=16, what="models")
LEARNED = Line(width=1, longest=4, what="models that learn their rounding")  # a minute each, and more


def contender(model: str, variant: Variant, strength: int) -> Dit:
    """The model that a variant asks for, at a strength of the salience dial, however long it takes.

    Raises ValueError where the variant's backend cannot run it, Full where too many wait already.
    """
    words = making(model, variant, strength, Event())
    while True:
        try:
            next(words)
        except StopIteration as made:
            finished: Dit = made.value
            return finished


def making(model: str, variant: Variant, strength: int, stop: Event) -> Generator[str, None, Dit | None]:
    """The model, with words about how far it is while it takes long; None once `stop` is set. Raises as `contender`.

    Nothing waits in its closing: a model that is wanted by nobody else is told to stop, and stops by itself.
    """
    if stop.is_set():
        return None
    if variant.is_float:
        return opened(model).bundle if strength == 1 else explored(model, strength).dit
    return (yield from _quantized(model, variant, strength).wait(stop))


@shared(maxsize=4 * QUANTIZED_MODELS)
def megabytes(model: str, variant: Variant, strength: int) -> float:
    """The variant's transformer on disk: packed integers and scales, or floats. Makes the model if need be."""
    from ptq4dit.checkpoint.packed import packed_bytes

    return packed_bytes(contender(model, variant, strength)) / 1e6


@shared(maxsize=QUANTIZED_MODELS)
def _quantized(model: str, variant: Variant, strength: int) -> Workpiece[Dit]:
    def make(stop: Event, tell: Tell) -> Dit:
        return _quantize(model, variant, strength, stop, tell)

    return Workpiece(make, LEARNED if variant.reconstruct else ROUNDED)


def _quantize(model: str, variant: Variant, strength: int, stop: Event, tell: Tell) -> Dit:
    """The model; ends soon after `stop` is set. Raises ValueError where it takes longer than anybody may ask for."""
    from ptq4dit import Cancelled

    end = time.monotonic() + LONGEST
    try:
        return _rounded(model, variant, strength, lambda: stop.is_set() or time.monotonic() > end, tell)
    except Cancelled:
        if stop.is_set():
            raise
        raise ValueError(
            f"method: expected a model that is made within {LONGEST / 60:.3g} minutes here; {variant.label} takes "
            "longer. Choose a method that learns less, or make it with python -m ptq4dit quantize"
        ) from None


def _rounded(model: str, variant: Variant, strength: int, cancelled: Callable[[], bool], tell: Tell) -> Dit:
    import ptq4dit
    from ptq4dit.config.methods import method_names

    chosen, own = explored(model, strength), variant.method in method_names(learns="own")
    shared_data = variant.reconstruct and not own
    config = ptq4dit.QuantConfig(
        method=variant.method,
        weight_bits=variant.weight_bits,
        activation_bits=variant.activation_bits,
        csb=variant.csb,
        ssc=variant.ssc,
        reconstruction=_reconstruction(model) if shared_data else None,
        backend=variant.backend,
        **granularity(variant.tokens),
    )

    def progress(done: int, total: int, seconds_left: float) -> None:
        known = math.isfinite(seconds_left)
        left = f", about {seconds_left:.0f} s left" if known else ""
        tell(f"{round(100 * done / total)} %{left}", seconds_left if known else None)

    if variant.reconstruct and own:
        tell("Drawing its own pictures to learn from first; with its rounding that may take minutes", None)
    data = _data(model, cancelled) if shared_data else None
    return ptq4dit.quantize(
        chosen.dit,
        chosen.stats,
        config,
        data=data,
        progress=progress if variant.reconstruct else None,
        cancelled=cancelled,
    )


def _reconstruction(model: str) -> ReconstructionConfig:
    """The settings of the stored benchmark, so that a run here can be held against it; or else its defaults."""
    from ptq4dit.benchmark.config import BenchmarkConfig
    from ptq4dit.config.reconstruction import ReconstructionConfig

    try:
        settings: dict[str, Any] = dict(load_benchmark(model).config.get("reconstruction", {}))
    except ValueError:
        settings = {}
    return ReconstructionConfig(**settings) if settings else BenchmarkConfig().reconstruction


def _data(model: str, cancelled: Callable[[], bool]) -> Trajectories:
    """Inputs for reconstruction; the dial leaves them as they are, the model's function being the same.

    Collected by whoever learns first, in the line of those who learn.
    """
    import ptq4dit

    kept = _collected(model)
    if "data" not in kept:
        chosen, settings = explored(model), _reconstruction(model)
        config = chosen.stats.config
        timesteps = min(settings.timesteps or config.timesteps, config.steps)
        kept["data"] = ptq4dit.collect(
            chosen.dit, config, images=settings.images, timesteps=timesteps, cancelled=cancelled
        )
    return kept["data"]


@shared(maxsize=2)
def _collected(model: str) -> dict[str, Trajectories]:
    return {}
