"""What a person has chosen, and its way to the query string and back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

ROLES = ("qkv", "proj", "fc1", "fc2")
STRENGTHS = (1, 2, 4, 8, 16)
BITS = (2, 3, 4, 5, 6, 7, 8, 16)
LAST_TIMESTEP = 999
MOST_STEPS = 250
LARGEST_SEED = 2**31 - 1
NO_CHANNEL = -1
LAST_CHANNEL = 16383
_MODEL = re.compile(r"[\w.-]{1,64}")
_LAYER = re.compile(rf"blocks\.\d+\.({'|'.join(ROLES)})")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """One view of the app: which layer, when, at which bits, with which parts of the method, and which picture.

    `model` is the name of the explored model; `timestep` a training index 0..999; `channel` the pinned input channel of
    the layer, -1 for none; `strength` the salience dial; `ssc` needs `csb`. Raises ValueError for a value out of range:
    the field, what it takes and what came.
    """

    model: str = "demo"
    layer: str = "blocks.2.fc1"
    timestep: int = 500
    channel: int = NO_CHANNEL
    weight_bits: int = 4
    activation_bits: int = 8
    csb: bool = True
    ssc: bool = True
    strength: int = 8
    class_id: int = 8
    seed: int = 0
    steps: int = 25
    guidance: float = 4.0

    def __post_init__(self) -> None:
        """Refuse what no view can show."""
        if not isinstance(self.model, str) or not _MODEL.fullmatch(self.model):
            raise ValueError(f"model: expected a name of letters, digits, '.', '_' and '-'; got {self.model!r}")
        if not isinstance(self.layer, str) or not _LAYER.fullmatch(self.layer):
            raise ValueError(
                f"layer: expected 'blocks.<number>.<role>' with role {', '.join(ROLES)}; got {self.layer!r}"
            )
        _within("timestep", self.timestep, 0, LAST_TIMESTEP)
        _within("channel", self.channel, NO_CHANNEL, LAST_CHANNEL)
        _one_of("weight_bits", self.weight_bits, BITS)
        _one_of("activation_bits", self.activation_bits, BITS)
        _one_of("strength", self.strength, STRENGTHS)
        _within("class_id", self.class_id, 0, 999)
        _within("seed", self.seed, 0, LARGEST_SEED)
        _within("steps", self.steps, 1, MOST_STEPS)
        _within("guidance", self.guidance, 1.0, 20.0)
        if self.ssc and not self.csb:
            raise ValueError(
                "ssc: needs csb, which it weighs the timesteps for; got csb=False. Switch csb on or ssc off"
            )

    @classmethod
    def from_controls(cls, *values: Any) -> Selection:
        """A selection from the controls' values in field order; ssc counts only while csb is on."""
        chosen = dict(zip(FIELDS, values, strict=True))
        chosen["ssc"] = bool(chosen["ssc"] and chosen["csb"])
        return cls(**chosen)

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> tuple[Selection, list[str]]:
        """The selection that a link asks for, and one message for each part of the link that was ignored."""
        chosen: dict[str, Any] = {}
        ignored = []
        for field in fields(cls):
            if field.name not in query:
                continue
            try:
                value = _parse(field.name, query[field.name], type(field.default))
                if field.name not in ("csb", "ssc"):
                    cls(**{field.name: value})
                chosen[field.name] = value
            except ValueError as error:
                ignored.append(str(error))
        if not chosen.get("csb", True):
            chosen["ssc"] = False
        return cls(**chosen), ignored

    def to_query(self, *, everything: bool = False) -> dict[str, str]:
        """The query string's pairs: what differs from the default, or everything."""
        default = asdict(Selection())
        chosen = asdict(self)
        return {name: _write(chosen[name]) for name in FIELDS if everything or chosen[name] != default[name]}


FIELDS = tuple(field.name for field in fields(Selection))


def _within(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high, and a whole number where the bounds are."""
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a number from {low} to {high}; got {value!r}")
    if not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name}: expected {kind} from {low} to {high}; got {value!r}")


def _one_of(name: str, value: int, allowed: tuple[int, ...]) -> None:
    """Raise ValueError unless the value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(str, allowed))}; got {value!r}")


def _parse(name: str, text: str, kind: type) -> Any:
    """The text of a query pair as a value of the field's type; ValueError where it is none."""
    if kind is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise ValueError(f"{name}: expected 0 or 1; got {text!r}")
        return text.lower() in _TRUE
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number; got {text!r}") from None


def _write(value: Any) -> str:
    """A value as a query pair's text, as JavaScript writes it too: 0 and 1 for switches, no needless decimals."""
    return f"{value:g}" if isinstance(value, float) else str(int(value)) if isinstance(value, bool) else str(value)
