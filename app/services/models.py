"""What is known of the explored models: an outline read from files at once, identity, and the salience dial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.services.cache import shared
from app.services.calibrated import Header, is_older, read_header
from app.services.loading import ModelMissing, calibration_file, is_quantized, loaded, opened
from app.services.shelf import Entry, config_of, entry, index_of
from app.state import STRENGTHS
from ptq4dit.storage.official_files import is_official_name

if TYPE_CHECKING:
    from ptq4dit import Bundle, Calibration

CLASSES = ("DiTPipeline",)  # pipelines that are given classes; all others are given prompts
LARGEST = 100_000  # classes that a model's files are believed to have


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
class Explored:
    """A float model and its calibration."""

    dit: Bundle
    stats: Calibration


def outline(name: str) -> Outline:
    """The outline of a model, from what is loaded or from its files alone. Raises ValueError for an unknown name."""
    chosen = entry(name)
    about: dict[str, Any] = {"name": name, "demo": chosen.demo, "layers": layers(name)}
    model = loaded(name)
    if model is not None:
        labels = tuple(model.bundle.id2label.values())
        return Outline(labels=labels, prompted=model.bundle.text_conditioned, quantized=is_quantized(chosen), **about)
    if is_official_name(chosen.source) and chosen.folder is None:
        return Outline(labels=_imagenet(), **about)
    index, config = index_of(chosen.source), config_of(chosen.source)
    if not index and "num_embeds_ada_norm" not in config:
        return Outline(known=False, **about)
    about["quantized"] = is_quantized(chosen)
    if index.get("_class_name", "DiTPipeline") not in CLASSES:
        return Outline(prompted=True, **about)
    names = _labels(index.get("id2label"), config)
    return Outline(known=False, **about) if names is None else Outline(labels=names, **about)


def layers(name: str) -> tuple[str, ...]:
    """The layers that a model's calibration knows, in model order; none without one, or with another model's."""
    from ptq4dit.storage.provenance import same_model

    header, own = _header(entry(name)), identity(name)
    return header.layers if header is not None and (own is None or same_model(own, header.model)) else ()


def identity(name: str) -> str | None:
    """The fingerprint of a model: of the loaded one, else what its calibration claims; None where neither is known.

    Weights that are younger than the calibration may be others': then nothing is believed until they are loaded.
    """
    model, chosen = loaded(name), entry(name)
    if model is not None:
        return model.fingerprint
    file, header = calibration_file(name), _header(chosen)
    if header is None or file is None or is_quantized(chosen):
        return None
    doubtful = not chosen.demo and chosen.folder is not None and is_older(file, chosen.folder)
    return None if doubtful else header.model


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


def _labels(named: object, config: dict[str, Any]) -> tuple[str, ...] | None:
    """The classes that a model's files name or count; None where they make no sense, and only loading it will tell."""
    known = named if isinstance(named, dict) else {}
    count = config.get("num_embeds_ada_norm", len(known))
    if type(count) is not int or not 0 <= count <= LARGEST:
        return None
    return tuple(str(known.get(str(i), f"class {i}")) for i in range(count))


def _header(chosen: Entry) -> Header | None:
    return read_header(calibration_file(chosen.name))


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
