"""The explored models: an outline of each read from its files at once, the models themselves loaded in the background.

One stays in memory, and others with it, at most `MOST`, as long as there is room; the one used least lately gives way.
"""

from __future__ import annotations

import os
import shlex
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as WaitedTooLong
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from app.services import cache, room
from app.services.cache import shared
from app.services.calibrated import Header, is_older, read_header
from app.services.shelf import Entry, config_of, entries, entry, index_of, is_owner
from app.state import STRENGTHS

if TYPE_CHECKING:
    from ptq4dit import Bundle, Calibration

PATIENCE = 120.0  # seconds that a handler waits for a model
MOST = 3  # models in memory
DEVICE = "PTQ4DIT_DEVICE"
CLASSES = {"DiTPipeline"}  # pipelines that are given classes; all others are given prompts

_start = Lock()
_loads: OrderedDict[str, Future[Opened]] = OrderedDict()


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What the page needs to know of a model before torch is there.

    layers: those of its calibration, empty without one; labels: its classes, empty where it is given prompts;
    prompted: it is; known: its files, or the loaded model, say which.
    """

    name: str
    layers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    prompted: bool = False
    known: bool = True
    demo: bool = False
    quantized: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A loaded model: its fingerprint, and its calibration, or in words why there is none."""

    bundle: Bundle
    fingerprint: str
    stats: Calibration | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explored:
    """A float model and its calibration."""

    dit: Bundle
    stats: Calibration


class ModelMissing(RuntimeError):
    """There is no model, or no calibration of it, to explore; the message says what to do."""


def outline(name: str) -> Outline:
    """The outline of a model, from what is loaded or from its files alone. Raises ValueError for an unknown name."""
    chosen = entry(name)
    about: dict[str, Any] = {"name": name, "demo": chosen.demo, "layers": layers(name)}
    model = _loaded(name)
    if model is not None:
        labels = tuple(model.bundle.id2label.values())
        return Outline(labels=labels, prompted=model.bundle.text_conditioned, quantized=is_quantized(chosen), **about)
    if chosen.source.endswith(".pt"):
        return Outline(labels=_imagenet(), **about)
    index, config = index_of(chosen.source), config_of(chosen.source)
    if not index and "num_embeds_ada_norm" not in config:
        return Outline(known=False, **about)
    about["quantized"] = is_quantized(chosen)
    if index.get("_class_name", "DiTPipeline") not in CLASSES:
        return Outline(prompted=True, **about)
    given: Any = index.get("id2label") or {}
    named = {int(key): str(label) for key, label in given.items()}
    count: Any = config.get("num_embeds_ada_norm", len(named))
    return Outline(labels=tuple(named.get(i, f"class {i}") for i in range(count)), **about)


def layers(name: str) -> tuple[str, ...]:
    """The layers that a model's calibration knows, in model order; none without one, or with another model's."""
    from ptq4dit.storage.provenance import same_model

    header, own = _header(entry(name)), identity(name)
    return header.layers if header is not None and (own is None or same_model(own, header.model)) else ()


def identity(name: str) -> str | None:
    """The fingerprint of a model: of the loaded one, else what its calibration claims; None where neither is known.

    Weights that are younger than the calibration may be others': then nothing is believed until they are loaded.
    """
    model, chosen = _loaded(name), entry(name)
    if model is not None:
        return model.fingerprint
    file, header = calibration_file(name), _header(chosen)
    if header is None or file is None or is_quantized(chosen):
        return None
    doubtful = not chosen.demo and chosen.folder is not None and is_older(file, chosen.folder)
    return None if doubtful else header.model


def calibration_file(name: str) -> Path | None:
    """Where a model's calibration is kept; None where there is none."""
    from ptq4dit.storage.home import CALIBRATION, kept

    return kept(entry(name).source, CALIBRATION)


def is_quantized(chosen: Entry) -> bool:
    """Whether a folder holds a quantized model."""
    return chosen.folder is not None and (chosen.folder / "manifest.json").is_file()


def command(name: str) -> str:
    """The command that makes what a model lacks: for the owner with its whole path, for others as they may read it."""
    chosen = entry(name)
    return f"python -m ptq4dit prepare {shlex.quote(chosen.source) if is_owner() else chosen.told}"


def opened(name: str) -> Opened:
    """The loaded model, calibrated or not; waits for its load, which it may begin.

    Raises ModelMissing where there is nothing to load, and where loading takes longer than PATIENCE.
    """
    try:
        return _load_once(name).result(timeout=PATIENCE)
    except WaitedTooLong:
        raise ModelMissing("The model is still loading. Try again in a minute.") from None


def explored(name: str, strength: int = 1) -> Explored:
    """A model and its calibration at a strength of the salience dial.

    Raises ModelMissing as `opened` does, and where there is no calibration.
    """
    if strength != 1:
        return _amplified(name, strength)
    model = opened(name)
    if model.stats is None:
        raise ModelMissing(model.problem)
    return Explored(dit=model.bundle, stats=model.stats)


def is_loaded(name: str, within: float = 0.0) -> bool:
    """Whether `opened` would answer at once, or within so many seconds; begins to load where nobody has."""
    return bool(wait([_load_once(name)], timeout=within).done)


def in_memory() -> tuple[str, ...]:
    """The models that are loaded or being loaded, the one used least lately first."""
    with _start:
        return tuple(_loads)


def forget(name: str) -> None:
    """Let go of a model, as when its calibration is another one now; who uses it still has it."""
    with _start:
        _loads.pop(name, None)
    cache.forget_model(name)


def forget_all() -> None:
    """Let go of all models and of everything that was worked out."""
    with _start:
        _loads.clear()
    cache.forget_everything()


def _load_once(name: str) -> Future[Opened]:
    """The one load of a model, begun by whoever asks first; a failed one is begun anew."""
    chosen = entry(name)
    with _start:
        future = _loads.get(name)
        if future is not None and not (future.done() and future.exception()):
            _loads.move_to_end(name)
            return future
        gone = _making_room(chosen)
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        future = _loads[name] = executor.submit(_load, chosen)
        _loads.move_to_end(name)
        executor.shutdown(wait=False)
    for other in gone:
        cache.forget_model(other)
    return future


def _making_room(chosen: Entry) -> list[str]:
    """Let go of other models until there is room for one more; their names."""
    others, gone = [name for name in _loads if name != chosen.name], []
    freed, wanted, free = 0, room.needed(chosen.source), room.available()
    known = {one.name: one.source for one in entries()}
    while others and (len(others) >= MOST or wanted > free + freed):
        oldest = others.pop(0)
        freed += room.needed(known[oldest]) if oldest in known else 0
        del _loads[oldest]
        gone.append(oldest)
    return gone


def _loaded(name: str) -> Opened | None:
    """The model where it is loaded already."""
    with _start:
        future = _loads.get(name)
    return future.result() if future is not None and future.done() and not future.exception() else None


def _load(chosen: Entry) -> Opened:
    """Import torch and the engine, then read the model and its calibration, which has to be its own."""
    import ptq4dit

    try:
        bundle = ptq4dit.load(chosen.source, device=os.environ.get(DEVICE))
    except (ValueError, OSError) as error:
        raise ModelMissing(_without_paths(str(error), chosen)) from error
    if is_quantized(chosen):
        return Opened(bundle=bundle, fingerprint=_manifest_digest(chosen), stats=None, problem=QUANTIZED)
    from ptq4dit.model.fingerprint import fingerprint

    found = fingerprint(bundle.transformer)
    stats, problem = _calibration(chosen, found)
    return Opened(bundle=bundle, fingerprint=found, stats=stats, problem=problem)


QUANTIZED = (
    "This folder holds a quantized model: what it was rounded from is not in it. Open the float model that it was made "
    "from to see salience, balancing and errors."
)


def _calibration(chosen: Entry, fingerprint: str) -> tuple[Calibration | None, str]:
    """The model's calibration; without one, or with one of other weights, what to do."""
    import ptq4dit
    from ptq4dit.storage.provenance import same_model

    file = calibration_file(chosen.name)
    if file is None:
        return None, f"There is no calibration of {chosen.name} yet. Make it: {command(chosen.name)}"
    try:
        stats = ptq4dit.Calibration.load(file)
    except ValueError:
        return None, f"The calibration of {chosen.name} cannot be read. Make it anew: {command(chosen.name)}"
    if not same_model(stats.model, fingerprint):
        return None, (
            f"The calibration kept for {chosen.name} is of other weights than these, so nothing of it is shown. Make "
            f"this model's: {command(chosen.name)}"
        )
    return stats, ""


def _header(chosen: Entry) -> Header | None:
    return read_header(calibration_file(chosen.name))


def _manifest_digest(chosen: Entry) -> str:
    from hashlib import blake2b

    return blake2b((Path(chosen.source) / "manifest.json").read_bytes(), digest_size=16).hexdigest()


def _without_paths(message: str, chosen: Entry) -> str:
    """An error's words without this machine's paths."""
    return message.replace(chosen.source, chosen.told)


@shared(maxsize=1)
def _imagenet() -> tuple[str, ...]:
    """The names of ImageNet's classes, which an official file is of."""
    import ptq4dit

    text = (Path(ptq4dit.__file__).parent / "imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


@shared(maxsize=len(STRENGTHS))
def _amplified(name: str, strength: int) -> Explored:
    """The model with its salience raised, function unchanged, and what calibrating that model would give."""
    from ptq4dit import lab

    trained = explored(name)
    factors = lab.amplification_factors(trained.dit.transformer, float(strength))
    dit = lab.amplify_salience(trained.dit, float(strength))
    return Explored(dit=dit, stats=trained.stats.rescaled_for(factors, dit.transformer))
