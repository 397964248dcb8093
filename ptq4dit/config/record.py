"""What a quantized model's files say of it, read as a stranger's: every field is there, of its type, and sensible."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ptq4dit.config.base import from_fields
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import LayerConfig, QuantConfig

_PATH = re.compile(r"\w+(\.\w+)*")
_FIELDS = {"config", "calibration", "statistics", "model", "layers", "settings"}
_ATTENTIONS = "attentions"
"""Said where there are some."""


@dataclass(frozen=True, kw_only=True)
class QuantRecord:
    """What made a quantized transformer, and all that is needed to build its modules again; kept on it as
    ``transformer.ptq4dit_record``, saved with it.

    Attributes:
        config: how it was quantized.
        calibration: how its statistics were gathered.
        statistics: those statistics in a few numbers.
        model: fingerprint of the float transformer.
        layers: quantized layers in model order: name -> paths in the transformer.
        settings: how each of them is quantized.
        attentions: paths of those whose q, k, v or softmax are rounded; not said of a DiT, which has one a block.
    """

    config: QuantConfig
    calibration: CalibrationConfig
    statistics: Mapping[str, int | float]
    model: str
    layers: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, LayerConfig]
    attentions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; settings that several layers share are said once."""
        return {
            "config": plain(dataclasses.asdict(self.config)),
            "calibration": plain(dataclasses.asdict(self.calibration)),
            "statistics": dict(self.statistics),
            "model": self.model,
            "layers": [[name, list(paths)] for name, paths in self.layers.items()],
            "settings": shared_settings(self.settings),
        } | ({_ATTENTIONS: list(self.attentions)} if self.attentions else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "QuantRecord":
        """What `to_dict` wrote.

        Raises:
            ValueError: if a field is missing, unknown, of another type, or refused.
        """
        if wrong := sorted((set(values) - {_ATTENTIONS}) ^ _FIELDS):
            raise ValueError(f"Expected exactly the fields {sorted(_FIELDS)}, got {wrong} wrong.")
        layers = _layers(required_list(values, "layers"))
        settings = stored_settings(required_list(values, "settings"))
        if sorted(settings) != sorted(layers) or not layers:
            raise ValueError("Expected settings of exactly the layers that are listed, got others. Quantize again.")
        return cls(
            config=made(QuantConfig, values["config"], "config"),
            calibration=made(CalibrationConfig, values["calibration"], "calibration"),
            statistics=numbers(required_dict(values, "statistics")),
            model=required_text(values, "model"),
            layers=layers,
            settings={name: settings[name] for name in layers},
            attentions=_attentions(required_list({_ATTENTIONS: []} | dict(values), _ATTENTIONS)),
        )


def shared_settings(settings: Mapping[str, LayerConfig]) -> list[dict[str, Any]]:
    """``[{"spec": settings, "layers": names}]``: how each quantized layer is quantized, equal settings said once."""
    groups: list[dict[str, Any]] = []
    for name, own in settings.items():
        spec = dataclasses.asdict(own)
        group = next((group for group in groups if group["spec"] == spec), None)
        if group is None:
            groups.append({"spec": spec, "layers": [name]})
        else:
            group["layers"].append(name)
    return groups


def stored_settings(groups: list[Any]) -> dict[str, LayerConfig]:
    """What `shared_settings` wrote; settings that did not exist then have their defaults.

    Raises:
        ValueError: if a setting is unknown or refused, or a layer is named twice.
    """
    settings: dict[str, LayerConfig] = {}
    for group in groups:
        whole = isinstance(group, dict) and set(group) == {"spec", "layers"}
        _require(whole, "settings", "groups of layers", group)
        spec = made(LayerConfig, group["spec"], "spec")
        for name in required_list(group, "layers"):
            _require(isinstance(name, str) and name not in settings, "settings", "every layer once, by name", name)
            settings[name] = spec
    return settings


def made(cls: type[Any], values: Any, name: str) -> Any:
    """A config from a stranger's JSON; whatever does not fit is one sentence.

    Raises:
        ValueError: if it is no object, a field is unknown or missing, or a value is refused.
    """
    _require(isinstance(values, dict), name, "an object", values)
    kinds = {field.name: field.type for field in dataclasses.fields(cls)}
    for field, value in values.items():
        if not _fits(value, kinds.get(field)):
            raise ValueError(f"Expected {name}.{field} to be of type {kinds[field]}, got {short(value)}.")
    try:
        return from_fields(cls, values)
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(f"Expected the settings of a {cls.__name__} in {name}, got {short(values)}.") from error


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value may stand for a simple annotation; what is not simple is left to the class itself."""
    simple: dict[Any, tuple[type, ...]] = {
        **{bool: (bool,), int: (int,), float: (int, float), str: (str,)},
        **{bool | None: (bool, type(None)), int | None: (int, type(None))},
    }
    if kind not in simple:
        return True
    if isinstance(value, bool) and bool not in simple[kind]:
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, simple[kind])


def plain(value: Any) -> Any:
    """The same value as JSON gives it back: tuples are lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def required_dict(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A field that is an object."""
    return _typed(values, name, "an object", lambda value: isinstance(value, dict))


def required_list(values: Mapping[str, Any], name: str) -> list[Any]:
    """A field that is a list."""
    return _typed(values, name, "a list", lambda value: isinstance(value, list))


def required_text(values: Mapping[str, Any], name: str) -> str:
    """A field that is text."""
    return _typed(values, name, "text", lambda value: isinstance(value, str))


def short(value: Any) -> str:
    """A value as a message quotes it: at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _typed(values: Mapping[str, Any], name: str, what: str, fits: Callable[[Any], bool]) -> Any:
    value = values.get(name)
    _require(fits(value), name, what, value)
    return value


def _require(true: bool, name: str, what: str, value: Any) -> None:
    if not true:
        raise ValueError(f"Expected {name} to be {what}, got {short(value)}.")


def _layers(pairs: list[Any]) -> dict[str, tuple[str, ...]]:
    layers: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for pair in pairs:
        _require(isinstance(pair, list) and len(pair) == 2, "layers", "pairs of a name and paths", pair)
        name, paths = pair
        _require(isinstance(name, str) and name not in layers, "layers", "every layer once, by name", name)
        named = isinstance(paths, list) and paths and all(isinstance(p, str) and _PATH.fullmatch(p) for p in paths)
        _require(bool(named) and not seen & set(paths), "the paths of a layer", "names of modules, each once", paths)
        seen |= set(paths)
        layers[name] = tuple(paths)
    return layers


def _attentions(paths: list[Any]) -> tuple[str, ...]:
    named = all(isinstance(path, str) and _PATH.fullmatch(path) for path in paths)
    _require(named and len(set(paths)) == len(paths), _ATTENTIONS, "names of modules, each once", paths)
    return tuple(paths)


def numbers(values: Mapping[str, Any]) -> dict[str, int | float]:
    """Finite numbers by name.

    Raises:
        ValueError: if one is none.
    """
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        _require(number, f"statistics.{name}", "a finite number", value)
    return dict(values)
