"""What all configs share: JSON there and back, and checks that say what was expected and what came."""

import dataclasses
import functools
import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeVar

ConfigT = TypeVar("ConfigT", bound="Config")
MadeT = TypeVar("MadeT")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A frozen dataclass that writes itself as JSON."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = plain_number(getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            if field.type is bool and not isinstance(value, bool):
                raise ValueError(f"Expected {field.name} to be True or False, got {value!r}.")

    def to_json(self) -> str:
        """All fields as one JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls: type[ConfigT], text: str) -> ConfigT:
        """The config that `to_json` wrote.

        Raises:
            ValueError: if a field is unknown or its value is refused.
        """
        return from_fields(cls, json.loads(text))


def plain_number(value: Any) -> Any:
    """Python's own number for one of NumPy's or torch's, which JSON does not know; anything else as it is."""
    single = getattr(value, "shape", None) == () and hasattr(value, "item")
    return value.item() if single else value


def plain_list(values: Any) -> Any:
    """A list of Python's own numbers for an array, a tensor, or a list of numbers; anything else as it is."""
    if getattr(values, "shape", None):
        return values.tolist()
    return [plain_number(value) for value in values] if isinstance(values, list | tuple) else values


def renamed(**former: str) -> Callable[[type[MadeT]], type[MadeT]]:
    """Let a dataclass go on taking fields under their former names, and reading them: ``renamed(old="new")``."""

    def decorate(cls: type[MadeT]) -> type[MadeT]:
        made = cls.__init__

        @functools.wraps(made)
        def init(self: Any, **values: Any) -> None:
            made(self, **{former.get(name, name): value for name, value in _latest(values, former)})

        cls.__init__ = init  # type: ignore[method-assign]
        cls._former_names = former  # type: ignore[attr-defined]
        for old, new in former.items():
            setattr(cls, old, property(operator.attrgetter(new), doc=f"Former name of `{new}`."))
        return cls

    return decorate


def _latest(values: Mapping[str, Any], former: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Former names last: `dataclasses.replace` gives the present name its old value beside what is asked for."""
    return sorted(values.items(), key=lambda item: item[0] in former)


def from_fields(cls: type[MadeT], values: Mapping[str, Any]) -> MadeT:
    """A dataclass from a mapping that may be a stranger's.

    Raises:
        ValueError: if a field is unknown or missing, or its value is refused.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"Expected the fields of a {cls.__name__}, got {type(values).__name__}.")
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    values = {getattr(cls, "_former_names", {}).get(name, name): value for name, value in values.items()}
    known = {field.name for field in fields}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"Expected only the fields {sorted(known)} in {cls.__name__}, got also {unknown}.")
    nothing = dataclasses.MISSING
    needed = {field.name for field in fields if field.default is nothing and field.default_factory is nothing}
    if missing := sorted(needed - set(values)):
        raise ValueError(f"Expected the fields {missing} in {cls.__name__}, got none of them.")
    return cls(**values)


def is_integer(value: object, at_least: int) -> bool:
    """Whether a value is an integer of at least so much; NumPy's integers are integers, truth values are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= at_least


def require_integer(name: str, value: object, at_least: int) -> None:
    """Refuse anything but an integer of at least so much; NumPy's integers are integers."""
    if not is_integer(value, at_least):
        raise ValueError(f"Expected {name} to be an integer of at least {at_least}, got {value!r}.")


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices."""
    if value not in choices:
        raise ValueError(f"Expected {name} to be one of {choices}, got {value!r}.")
