"""What a person has chosen, and its way to the query string and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

STRENGTHS = (1, 2, 4, 8, 16)
BITS = (2, 3, 4, 5, 6, 7, 8, 16)
LAST_TIMESTEP = 999
MOST_STEPS = 250
LARGEST_SEED = 2**31 - 1
NO_CHANNEL = -1
ECHO = 60  # characters of what came that an answer repeats
LAST_CHANNEL = 16383
_MODEL = re.compile(r"[\w.-]{1,64}")
LONGEST_PROMPT = 200  # characters
_TO_SCRIPT = re.compile(r"\\|\$(?=\{)")
_LAYER = re.compile(r"[A-Za-z0-9_]{1,40}(\.[A-Za-z0-9_]{1,40}){0,11}")
_KINDS: dict[type, str] = {list: "a list", tuple: "a list", dict: "an object"}
REFERRED = ("model", "layer", "timestep", "weight_bits", "activation_bits", "csb", "ssc", "strength", "tokens")
BETWEEN = "~"
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """One view of the app: which layer, when, at which bits, with which parts of the method, and which picture.

    `model` is the name of the explored model; `timestep` a training index 0..999; `channel` the pinned input channel of
    the layer, -1 for none; `strength` the salience dial; `ssc` needs `csb`; `tokens` gives every token's input a scale
    of its own; `reference` is the view that this one is compared with, as `refer` writes it, empty for none; `class_id`
    counts where the model is given classes, `prompt` where it is given prompts. Raises ValueError for a value out of
    range: the field, what it takes and what came.
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
    tokens: bool = False
    reference: str = ""
    class_id: int = 8
    seed: int = 0
    steps: int = 25
    guidance: float = 4.0
    prompt: str = ""

    def __post_init__(self) -> None:
        """Refuse what no view can show."""
        if not isinstance(self.model, str) or not _MODEL.fullmatch(self.model):
            raise ValueError(f"model: expected a name of letters, digits, '.', '_' and '-'; got {brief(self.model)}")
        if not isinstance(self.layer, str) or not _LAYER.fullmatch(self.layer):
            raise ValueError(
                f"layer: expected a name such as 'blocks.2.fc1', words between dots; got {brief(self.layer)}"
            )
        self._set("timestep", within, 0, LAST_TIMESTEP)
        self._set("channel", within, NO_CHANNEL, LAST_CHANNEL)
        self._set("weight_bits", one_of, BITS)
        self._set("activation_bits", one_of, BITS)
        self._set("csb", switch)
        self._set("ssc", switch)
        self._set("strength", one_of, STRENGTHS)
        self._set("class_id", within, 0, 999)
        self._set("seed", within, 0, LARGEST_SEED)
        self._set("steps", within, 1, MOST_STEPS)
        self._set("guidance", within, 1.0, 20.0)
        self._set("prompt", text, LONGEST_PROMPT)
        self._set("tokens", switch)
        if self.reference != "":
            object.__setattr__(self, "reference", refer(referred(self.reference)))
        if self.ssc and not self.csb:
            raise ValueError(
                "ssc: needs csb, which it weighs the timesteps for; got csb=False. Switch csb on or ssc off"
            )

    def _set(self, name: str, checked: Callable[..., Any], *allowed: Any) -> None:
        """Hold a field in its own type, so that one value is one key of every cache, however it was written."""
        object.__setattr__(self, name, checked(name, getattr(self, name), *allowed))

    @property
    def rounding(self) -> tuple[int, int, int, bool]:
        """How a layer is rounded: bits of weights and of activations, at which dial, a scale for every token or not."""
        return self.weight_bits, self.activation_bits, self.strength, self.tokens

    @classmethod
    def from_controls(cls, *values: Any) -> Selection:
        """A selection from the controls' values in field order; ssc counts only while csb is on."""
        if len(values) != len(FIELDS):
            raise ValueError(f"selection: expected {len(FIELDS)} values, {', '.join(FIELDS)}; got {len(values)}")
        chosen = dict(zip(FIELDS, values, strict=True))
        chosen["ssc"] = switch("ssc", chosen["ssc"]) and switch("csb", chosen["csb"])
        return cls(**chosen)

    @classmethod
    def from_part(cls, part: Any) -> Selection:
        """A selection from what a part of the page holds: its fields by name, among others."""
        if not isinstance(part, Mapping):
            raise ValueError(f"selection: expected its fields by name; got {brief(part)}")
        return cls.from_controls(*(part.get(name) for name in FIELDS))

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


def refer(selection: Selection) -> str:
    """A view in one word, to compare others with: what `REFERRED` names, as links write it."""
    return BETWEEN.join(selection.to_query(everything=True)[name] for name in REFERRED)


def referred(reference: str) -> Selection:
    """The view that `refer` wrote. Raises ValueError for anything else."""
    parts = reference.split(BETWEEN) if isinstance(reference, str) else []
    if len(parts) != len(REFERRED):
        told = f"{', '.join(REFERRED)} with {BETWEEN!r} between them"
        raise ValueError(f"reference: expected {told}; got {brief(reference)}")
    kinds = {field.name: type(field.default) for field in fields(Selection)}
    try:
        return Selection(**{name: _parse(name, part, kinds[name]) for name, part in zip(REFERRED, parts, strict=True)})
    except ValueError as error:
        raise ValueError(f"reference: {error}") from None


def brief(value: Any) -> str:
    """What came, as an answer may repeat it: at most `ECHO` characters, those that print."""
    told = repr(value) if isinstance(value, (str, int, float, type(None))) else _KINDS.get(type(value), "another value")
    return told if len(told) <= ECHO else f"{told[: ECHO - 3]}..."


def within(name: str, value: Any, low: float, high: float) -> Any:
    """The number, whole where the bounds are; raises ValueError unless low <= value <= high."""
    whole = isinstance(low, int)
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not known or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name}: expected {kind} from {low} to {high}; got {brief(value)}")
    return int(value) if whole else float(value)


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """The one of those allowed that equals the value; raises ValueError where there is none."""
    for one in allowed:
        if value == one and not isinstance(value, bool):
            return one
    raise ValueError(f"{name}: expected one of {', '.join(map(str, allowed))}; got {brief(value)}")


def switch(name: str, value: Any) -> bool:
    """True or false; raises ValueError for anything else, words among it."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false; got {brief(value)}")
    return value


def text(name: str, value: Any, longest: int) -> str:
    """A text on one line; raises ValueError for anything else, and for a longer one.

    Without backslashes and "${": the page's templates are read by JavaScript once more, which would run what they say.
    """
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{name}: expected a text of at most {longest} characters; got {brief(value)}")
    return " ".join(_TO_SCRIPT.sub(" ", value).split())


def _parse(name: str, given: str, kind: type) -> Any:
    """What a query pair says as a value of the field's type; ValueError where it is none."""
    if kind is bool:
        if given.lower() not in _TRUE | _FALSE:
            raise ValueError(f"{name}: expected 0 or 1; got {brief(given)}")
        return given.lower() in _TRUE
    try:
        return kind(given)
    except ValueError:
        raise ValueError(f"{name}: expected a number; got {brief(given)}") from None


def _write(value: Any) -> str:
    """A value as a query pair's text, as JavaScript writes it too: 0 and 1 for switches, no needless decimals."""
    return f"{value:g}" if isinstance(value, float) else str(int(value)) if isinstance(value, bool) else str(value)
