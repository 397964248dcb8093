"""The explored model: its outline read from JSON at once, the model itself loaded in the background."""

from __future__ import annotations

import json
import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as WaitedTooLong
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from app.services.cache import shared
from app.state import ROLES, STRENGTHS

if TYPE_CHECKING:
    from ptq4dit import Calibration, Dit

ROOT = Path(__file__).resolve().parents[2]  # of the checkout: the process may have been started anywhere
DEMO = ROOT / "assets" / "demo"
PATIENCE = 120.0  # seconds that a handler waits for the model

_start = Lock()
_loading: Future[Explored] | None = None


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What the page needs to know of a model before torch is there; `known` where its files say so."""

    source: str
    blocks: int
    labels: tuple[str, ...]
    known: bool = True

    @property
    def layers(self) -> list[str]:
        """The names of all inspectable layers in model order."""
        return [f"blocks.{block}.{role}" for block in range(self.blocks) for role in ROLES]


@dataclass(frozen=True, kw_only=True, eq=False)
class Explored:
    """A float model and its calibration."""

    dit: Dit
    stats: Calibration


class ModelMissing(RuntimeError):
    """There is no model, or no calibration of it, to explore; the message says what to do."""


def source() -> str:
    """The explored model: PTQ4DIT_MODEL, below where the process was started or the checkout; else the demo model."""
    wanted = os.environ.get("PTQ4DIT_MODEL")
    if not wanted:
        return str(DEMO)
    anchored = ROOT / wanted
    return str(anchored) if anchored.is_dir() and not Path(wanted).is_dir() else wanted


@shared(maxsize=1)
def outline() -> Outline:
    """The outline of the explored model, from its JSON files alone; of one block where there is no such folder."""
    folder = Path(source())
    if not (folder / "model_index.json").is_file():
        return Outline(source=str(folder), blocks=1, labels=("0",), known=False)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    named = {int(key): str(name) for key, name in index.get("id2label", {}).items()}
    labels = tuple(named.get(i, str(i)) for i in range(config["num_embeds_ada_norm"]))
    return Outline(source=str(folder), blocks=config["num_layers"], labels=labels)


def explored(strength: int = 1) -> Explored:
    """The model and its calibration at a strength of the salience dial; waits for the first load, which it may begin.

    Raises ModelMissing where there is nothing to load, and where loading takes longer than PATIENCE.
    """
    try:
        trained = _load_once().result(timeout=PATIENCE)
    except WaitedTooLong:
        raise ModelMissing("The model is still loading. Try again in a minute.") from None
    return trained if strength == 1 else _amplified(strength)


def is_loaded(within: float = 0.0) -> bool:
    """Whether `explored` would answer at once, or within so many seconds; begins to load where nobody has."""
    return bool(wait([_load_once()], timeout=within).done)


def _load_once() -> Future[Explored]:
    """The one load of this process, begun by whoever asks first; a failed one is begun anew."""
    global _loading
    with _start:
        if _loading is None or (_loading.done() and _loading.exception()):
            executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
            _loading = executor.submit(_load)
            executor.shutdown(wait=False)
        return _loading


def _load() -> Explored:
    """Import torch and the engine, then read the model and its calibration."""
    folder = Path(source())
    calibration = folder / "calibration.safetensors"
    if not calibration.is_file():
        raise ModelMissing(
            "There is no calibration at calibration.safetensors in the explored model's folder (the one that "
            "PTQ4DIT_MODEL names, or assets/demo). Make it with "
            "`ptq4dit.calibrate(ptq4dit.load(folder), ptq4dit.CalibrationConfig()).save(path)`."
        )
    import ptq4dit

    return Explored(dit=ptq4dit.load(str(folder)), stats=ptq4dit.Calibration.load(calibration))


@shared(maxsize=len(STRENGTHS))
def _amplified(strength: int) -> Explored:
    """The model with its salience raised, function unchanged, and what calibrating that model would give."""
    from ptq4dit import lab

    trained = explored()
    factors = lab.amplification_factors(trained.dit.transformer, float(strength))
    dit = lab.amplify_salience(trained.dit, float(strength))
    return Explored(dit=dit, stats=trained.stats.rescaled_for(factors, dit.transformer))
