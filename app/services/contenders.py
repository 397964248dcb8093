"""The models that are compared: each quantized once, by whoever asks first, and kept for all visitors."""

from __future__ import annotations

import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from app.services.cache import shared
from app.services.models import explored
from app.services.request import Variant
from app.services.stored_benchmark import load_benchmark

if TYPE_CHECKING:
    from ptq4dit import Dit, ReconstructionConfig, Trajectories

QUANTIZED_MODELS = 16  # kept for all visitors, about 50 MB each
POLL = 0.2  # seconds between two words about a model that takes long to make


def contender(variant: Variant, strength: int, stop: Event | None = None) -> Dit:
    """The model that a variant asks for, at a strength of the salience dial.

    Raises ptq4dit.Cancelled once `stop` is set; ValueError where the variant's backend cannot run it.
    """
    if variant.is_float:
        return explored(strength).dit
    return _quantized(variant, strength).model(stop or Event(), {})


def making(variant: Variant, strength: int, stop: Event) -> Generator[str, None, Dit | None]:
    """The model, with words about how far it is while it takes long; None once `stop` is set. Raises as `contender`."""
    if not variant.reconstruct:
        return None if stop.is_set() else contender(variant, strength, stop)
    from ptq4dit import Cancelled

    told: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="quantize") as executor:
        made = executor.submit(_quantized(variant, strength).model, stop, told)
        while not made.done():
            yield told.get("note", "")
            time.sleep(POLL)
        try:
            return made.result()
        except Cancelled:
            return None


@shared(maxsize=4 * QUANTIZED_MODELS)
def megabytes(variant: Variant, strength: int) -> float:
    """The variant's transformer on disk: packed integers and scales, or floats. Makes the model if need be."""
    from ptq4dit.checkpoint.packed import packed_bytes

    return packed_bytes(contender(variant, strength)) / 1e6


class _Quantized:
    """A quantized model, made by whoever asks first; others who ask for this one wait for it, and nobody else does."""

    def __init__(self, variant: Variant, strength: int) -> None:
        self._variant, self._strength = variant, strength
        self._lock = Lock()
        self._model: Dit | None = None

    def model(self, stop: Event, told: dict[str, str]) -> Dit:
        """The model, at once if it has been made; `told["note"]` says how far it is."""
        from ptq4dit import Cancelled

        while not self._lock.acquire(timeout=POLL):
            if stop.is_set():
                raise Cancelled("Cancelled while another visitor's run was making the model.")
        try:
            if self._model is None:
                self._model = _quantize(self._variant, self._strength, stop, told)
            return self._model
        finally:
            self._lock.release()


@shared(maxsize=QUANTIZED_MODELS)
def _quantized(variant: Variant, strength: int) -> _Quantized:
    return _Quantized(variant, strength)


def _quantize(variant: Variant, strength: int, stop: Event, told: dict[str, str]) -> Dit:
    import ptq4dit
    from ptq4dit.config.methods import method_names

    model, own = explored(strength), variant.method in method_names(learns="own")
    shared_data = variant.reconstruct and not own
    config = ptq4dit.QuantConfig(
        method=variant.method,
        weight_bits=variant.weight_bits,
        activation_bits=variant.activation_bits,
        csb=variant.csb,
        ssc=variant.ssc,
        reconstruction=_reconstruction() if shared_data else None,
        backend=variant.backend,
    )

    def progress(done: int, total: int, seconds_left: float) -> None:
        told["note"] = f"{round(100 * done / total)} %, about {seconds_left:.0f} s left"

    if variant.reconstruct and own:
        told["note"] = "Drawing its own pictures to learn from first; with its rounding that may take minutes"
    data = _data() if shared_data else None
    return ptq4dit.quantize(
        model.dit,
        model.stats,
        config,
        data=data,
        progress=progress if variant.reconstruct else None,
        cancelled=stop.is_set,
    )


def _reconstruction() -> ReconstructionConfig:
    """The settings of the stored benchmark, so that a run here can be held against it; or else its defaults."""
    from ptq4dit.benchmark.config import BenchmarkConfig
    from ptq4dit.config.reconstruction import ReconstructionConfig

    try:
        settings: dict[str, Any] = dict(load_benchmark().config.get("reconstruction", {}))
    except ValueError:
        settings = {}
    return ReconstructionConfig(**settings) if settings else BenchmarkConfig().reconstruction


@shared(maxsize=1)
def _data() -> Trajectories:
    """Inputs for reconstruction; the dial leaves them as they are, the model's function being the same."""
    import ptq4dit

    model, settings = explored(), _reconstruction()
    config = model.stats.config
    timesteps = min(settings.timesteps or config.timesteps, config.steps)
    return ptq4dit.collect(model.dit, config, images=settings.images, timesteps=timesteps)
