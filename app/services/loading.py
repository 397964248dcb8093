"""The explored models in memory: each loaded in the background, by whoever asks first.

One stays, and others with it, at most `MOST`, as long as there is room; the one used least lately gives way.
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
from typing import TYPE_CHECKING

from app.services import cache, room
from app.services.shelf import Entry, entries, entry, is_owner, without_paths

if TYPE_CHECKING:
    from ptq4dit import Bundle, Calibration

PATIENCE = 120.0  # seconds that a handler waits for a model
MOST = 3  # models in memory
DEVICE = "PTQ4DIT_DEVICE"
QUANTIZED = (
    "This folder holds a quantized model: what it was rounded from is not in it. Open the float model that it was made "
    "from to see salience, balancing and errors."
)

_start = Lock()
_loads: OrderedDict[str, Future[Opened]] = OrderedDict()


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A loaded model: its fingerprint, and its calibration, or in words why there is none."""

    bundle: Bundle
    fingerprint: str
    stats: Calibration | None
    problem: str = ""


class ModelMissing(RuntimeError):
    """There is no model, or no calibration of it, to explore; the message says what to do."""


def opened(name: str) -> Opened:
    """The loaded model, calibrated or not; waits for its load, which it may begin.

    Raises ModelMissing where there is nothing to load, and where loading takes longer than PATIENCE.
    """
    try:
        return _load_once(name).result(timeout=PATIENCE)
    except WaitedTooLong:
        raise ModelMissing("The model is still loading. Try again in a minute.") from None


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


def loaded(name: str) -> Opened | None:
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
        raise ModelMissing(without_paths(str(error).replace(chosen.source, chosen.told))) from error
    if is_quantized(chosen):
        return Opened(bundle=bundle, fingerprint=_manifest_digest(chosen), stats=None, problem=QUANTIZED)
    from ptq4dit.model.fingerprint import fingerprint

    found = fingerprint(bundle.transformer)
    stats, problem = _calibration(chosen, found)
    return Opened(bundle=bundle, fingerprint=found, stats=stats, problem=problem)


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


def calibration_file(name: str) -> Path | None:
    """Where a model's calibration is kept; None where there is none."""
    from ptq4dit.storage.home import CALIBRATION, kept

    return kept(entry(name).source, CALIBRATION)


def is_quantized(chosen: Entry) -> bool:
    """Whether a folder holds a quantized model."""
    return chosen.folder is not None and (chosen.folder / "manifest.json").is_file()


def command(name: str, verb: str = "prepare", *options: str) -> str:
    """A command about a model, by default the one that makes what it lacks: for the owner with its whole path.

    For others its path is told as they may read it.
    """
    chosen = entry(name)
    return " ".join(["python -m ptq4dit", verb, shlex.quote(chosen.source if is_owner() else chosen.told), *options])


def _manifest_digest(chosen: Entry) -> str:
    from hashlib import blake2b

    return blake2b((Path(chosen.source) / "manifest.json").read_bytes(), digest_size=16).hexdigest()
