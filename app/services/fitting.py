"""What a model can show of a selection: a layer, a class or prompt that it has, the dial where it is for a lesson."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.services import shelf
from app.services.models import Outline, outline
from app.state import NO_CHANNEL, Selection, brief, referred

PROMPTS = 12  # examples to click
AS_TRAINED = 1


def opening(model: str, asked: frozenset[str] = frozenset(), selection: Selection | None = None) -> Selection:
    """The selection with which a model opens; fields in `asked` were asked for and stay, where the model has them."""
    return fit(selection or Selection(model=model), outline(model), asked)[0]


def fit(selection: Selection, about: Outline, asked: frozenset[str] = frozenset()) -> tuple[Selection, dict[str, str]]:
    """The selection as a model can show it, and by field what it had to give up.

    A model that does not ship with the app opens as it was trained: the salience dial is there for lessons.
    """
    unknown, usual = {}, Selection()
    changes: dict[str, object] = {}
    if selection.model != about.name:
        unknown["model"] = f"model: expected one of {', '.join(shelf.names())}; got {brief(selection.model)}"
        changes["model"] = about.name
    if about.layers and selection.layer not in about.layers:
        unknown["layer"] = f"layer: expected one of the model's, {about.layers[0]} ...; got {brief(selection.layer)}"
        first = usual.layer if usual.layer in about.layers else about.layers[0]
        changes |= {"layer": first, "channel": NO_CHANNEL}
    if selection.reference and referred(selection.reference).model not in shelf.names():
        unknown["reference"] = f"reference: expected a view of {', '.join(shelf.names())}; got another model's"
        changes["reference"] = ""
    if about.labels and selection.class_id >= len(about.labels):
        unknown["class_id"] = f"class_id: expected 0 to {len(about.labels) - 1}; got {selection.class_id}"
        changes["class_id"] = 0
    if about.prompted and not selection.prompt:
        changes["prompt"] = prompts()[0]
    if not about.demo and "strength" not in asked and selection.strength == usual.strength:
        changes["strength"] = AS_TRAINED
    return replace(selection, **changes), unknown  # type: ignore[arg-type]


def prompts() -> tuple[str, ...]:
    """Prompts to click."""
    import ptq4dit

    file = Path(ptq4dit.__file__).parent / "sampling" / "prompts.txt"
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return tuple(lines[:: max(1, len(lines) // PROMPTS)][:PROMPTS])
