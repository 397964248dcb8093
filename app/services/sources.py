"""Where every stored number comes from: the files of results, the commands that write them, what made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.services.loading import ModelMissing, is_loaded
from app.services.models import explored, identity
from app.services.result_files import fingerprint_of, read_result, result_files, told
from app.state import STRENGTHS


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a file of results beside what it says itself: what it holds, where it is seen.

    of: what it was measured on, where that is no model of the menu.
    """

    holds: str
    seen: str
    of: str = ""
    command: str = ""
    backend: str = ""


FLOAT = "full precision"
XL = "DiT-XL/2's shape, random weights"
XL_KIND = "DiT-XL/2's kind, random weights"
FILES = {
    "results.json": Known(holds="Pictures and PSNR of six examples, means over 32 pictures", seen="Start"),
    "benchmark.json": Known(holds="Every method on the same noise, PTQ4DiT's parts", seen="Methods"),
    "ours_parts.json": Known(holds="What each part of ours brings, on many pictures", seen="README"),
    "speed.json": Known(holds="Seconds, memory and bytes of each backend", seen="Compare"),
    "speed_xl.json": Known(holds="The same at DiT-XL/2's size", seen="README", of=XL),
    "speed_xl_in_turn.json": Known(holds="The most telling of them in turn in one process", seen="README", of=XL),
    "speed_fixed_batch.json": Known(holds="The demo with a graph for each batch size", seen="README"),
    "dial.json": Known(holds="PSNR at every setting of the salience dial", seen="Data & API"),
    "salience.json": Known(holds="Salience and correlation of every layer", seen="model card", backend=FLOAT),
    "quality.json": Known(holds="How good the demo model is in full precision", seen="model card", backend=FLOAT),
    "training.json": Known(
        holds="How the demo model was trained",
        seen="model card",
        command="python assets/recipes/train_dit.py",
        backend=FLOAT,
    ),
    "reconstruction.json": Known(
        holds="Error of a block over the steps of reconstruction", seen="README", backend="simulated"
    ),
    "ssc_ways.json": Known(holds="Ways to make one salience of many timesteps", seen="README"),
    "full_size.json": Known(holds="What quantizing a model of DiT-XL/2's size takes", seen="README", of=XL),
    "cost_growth.json": Known(
        holds="How time and memory grow with tokens, rows, blocks, width", seen="README", of=XL_KIND
    ),
    "feel.json": Known(holds="How the app feels: start, clicks, many visitors, memory", seen="Data & API"),
    "feel_xl.json": Known(holds="How soon Inspect answers at DiT-XL/2's size", seen="README", of=XL),
    **{
        f"sensitivity{which}.json": Known(holds=f"Each layer's rounding alone, {how}", seen="Inspect")
        for which, how in {
            "": "balanced",
            "-none": "not balanced",
            "-x8": "salience x 8",
            "-x8-none": "x 8, not balanced",
        }.items()
    },
    "attention.json": Known(holds="What rounding the attention costs in quality", seen="README"),
    "rounding.json": Known(holds="How every layer is rounded at all bits, and the errors", seen="Inspect"),
}
COMMAND = "a script of assets/recipes"
OTHERS = "other weights: not shown"
DAMAGED = Known(holds="Damaged: it holds no JSON object, so nothing of it is shown", seen="")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of results and what made it; empty where the file does not say."""

    file: str
    of: str
    holds: str
    seen: str
    command: str
    commit: str
    date: str
    hardware: str
    backend: str


def sources(model: str) -> list[Source]:
    """All files of results that are kept for a model."""
    order = list(FILES)
    files = sorted(result_files(model), key=lambda file: order.index(file.name) if file.name in FILES else len(order))
    return [source(model, file) for file in files]


def hardware_words(named: object) -> str:
    """A machine as the files name it: words, or what `python -m ptq4dit speed` found out about it."""
    if isinstance(named, dict):
        return f"{named.get('processor', '')}, {named.get('cores', '?')} cores"
    return str(named or "")


def whose(model: str, content: dict[str, Any]) -> str:
    """Of which model results are: this one, or other weights, or not said."""
    from ptq4dit.storage.provenance import same_model

    fingerprint = fingerprint_of(content)
    if fingerprint is None:
        return "not said"
    if (strength := _strength(content)) > 1:
        raised = f"{model}, salience x {strength}"
        if not is_loaded(model):
            return f"{raised}: checked where it is shown"
        try:
            return raised if same_model(fingerprint, explored(model, strength).stats.model) else OTHERS
        except ModelMissing:
            return OTHERS
    return model if same_model(fingerprint, identity(model)) else OTHERS


def _strength(content: dict[str, Any]) -> int:
    """The strength of the salience dial at which the weights were that results are of."""
    settings = content.get("settings")
    strength = settings.get("strength") if isinstance(settings, dict) else None
    return strength if strength in STRENGTHS else 1


def source(model: str, file: Path) -> Source:
    """One file of results, whosever they are; of a damaged one, that it is."""
    known = FILES.get(file.name, Known(holds="", seen=""))
    try:
        content = read_result(file, known.command or COMMAND)
    except ValueError:
        content, known = {}, DAMAGED
    made: Mapping[str, Any] = content["made"] if isinstance(content.get("made"), dict) else content

    def said(key: str) -> str:
        return str(made.get(key) or content.get(key) or "")

    return Source(
        file=told(file),
        of=known.of or whose(model, content),
        holds=known.holds,
        seen=known.seen,
        command=said("command") or known.command,
        commit=said("commit"),
        date=said("date"),
        hardware=hardware_words(made.get("hardware")),
        backend=said("backend") or known.backend,
    )
