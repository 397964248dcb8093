"""The calls of a transformer while it samples, taken apart by step, half of guidance and image."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from ptq4dit.calibration.call import TIMESTEP_NAMES, named_arguments, rows_of
from ptq4dit.model.hooks import Hooks

Rows = Tensor | list[Tensor]
"""Something with an entry for every sample: a tensor, or a list of tensors whose shapes may differ."""
_TABLES = ("img_ids", "txt_ids", "image_rotary_emb", "freqs_cis")
"""Arguments that belong to positions, not to samples, however many rows they have."""
AS_LIST = "as a list"
"""The constant of a first argument that is a list of one tensor for each sample."""


@dataclass(frozen=True)
class EachSample:
    """A list with this value once for every sample."""

    value: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedCall:
    """One call of a transformer, its arguments by name.

    Attributes:
        names: of the first argument and of the timestep.
        latents: the first argument, a row a sample.
        timesteps: ``(n,)``.
        conditions: other arguments with a row for each sample; what lies in a dict is named ``"<dict>.<key>"``.
        constants: arguments without.
    """

    names: tuple[str, str]
    latents: Tensor
    timesteps: Shaped[Tensor, " n"]
    conditions: dict[str, Rows]
    constants: dict[str, Any]

    @staticmethod
    def of(transformer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "RecordedCall":
        """Copy a call's arguments to the CPU.

        Raises:
            ValueError: if there is no timestep among them, or the first argument is not one tensor for each sample.
        """
        masks = [name for name in inspect.signature(type(transformer).forward).parameters if "mask" in name]
        given: dict[str, Any] = dict.fromkeys(masks)  # may be needed: prompts are padded
        given |= named_arguments(transformer, args, kwargs)
        first, time = _first_name(transformer, given), _timestep_name(transformer, given)
        latents = given.pop(first)
        count = len(latents)
        conditions: dict[str, Rows] = {}
        constants: dict[str, Any] = {}
        if isinstance(latents, list):
            constants[first], latents = AS_LIST, torch.stack(latents)
        times = torch.as_tensor(given.pop(time)).detach().cpu().clone()
        if times.ndim > 1:  # one for each token
            conditions[time], times = times, times[:, 0]
        for name, value in given.items():
            if name != "return_dict":
                _sort(name, value, count, conditions, constants)
        return RecordedCall(
            names=(first, time),
            latents=latents.detach().cpu().clone(),
            timesteps=times.expand(count).clone(),
            conditions=conditions,
            constants=constants,
        )


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put ``"<dict>.<key>"`` back into dicts."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        *outer, last = name.split(".")
        inner = result
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return result


def pick(value: Rows, rows: Int[Tensor, " chosen"]) -> Rows:
    """The entries of some samples."""
    return value[rows] if isinstance(value, Tensor) else [value[int(row)] for row in rows]


def _first_name(transformer: nn.Module, given: Mapping[str, Any]) -> str:
    """The first argument of the forward, in whatever order a call names them."""
    names = inspect.signature(type(transformer).forward).parameters
    return next(name for name in (*names, *given) if name in given)


def _timestep_name(transformer: nn.Module, given: Mapping[str, Any]) -> str:
    for name in TIMESTEP_NAMES:
        if given.get(name) is not None:
            return name
    raise ValueError(
        f"Expected a call of {type(transformer).__name__} with a timestep, got {sorted(given)}. Record the denoising "
        "transformer of a pipeline."
    )


def _sort(name: str, value: Any, count: int, conditions: dict[str, Rows], constants: dict[str, Any]) -> None:
    """Put an argument where it belongs."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            _sort(f"{name}.{key}", inner, count, conditions, constants)
    elif isinstance(value, Tensor):
        if value.ndim > 2 and len(value) == 1 < count and name not in _TABLES:
            value = value.expand(count, *value.shape[1:])  # one condition for all samples, such as "no prompt"
        rows = value.ndim > 0 and len(value) == count and name not in _TABLES
        (conditions if rows else constants)[name] = value.detach().cpu().clone()
    elif isinstance(value, list) and len(value) == count and all(isinstance(one, Tensor) for one in value):
        conditions[name] = [one.detach().cpu().clone() for one in value]
    elif isinstance(value, list) and len(value) == count and all(one == value[0] for one in value):
        constants[name] = EachSample(value[0])
    elif isinstance(value, tuple) and any(isinstance(one, Tensor) for one in value):
        constants[name] = tuple(one.detach().cpu().clone() for one in value)
    else:
        constants[name] = value


@dataclass(kw_only=True)
class Recording:
    """Some of the calls during one sampling run, each with its step and its place among the step's calls.

    A step begins where the timestep changes, and where both halves of guidance have been seen.
    """

    transformer: nn.Module
    images: int
    positions: Sequence[int]
    kept: list[tuple[int, int, RecordedCall]] = field(default_factory=list)
    _step: int = -1
    _halves: int = 0
    _time: float | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch the transformer."""
        with Hooks() as hooks:
            hooks.before(self.transformer, self._see)
            yield

    def _see(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = named_arguments(self.transformer, args, kwargs)
        time = float(torch.as_tensor(given[_timestep_name(self.transformer, given)]).flatten()[0])
        count = rows_of(args, kwargs)
        if count % self.images:
            raise ValueError(
                f"Expected calls with one or two rows for each of {self.images} images, got {count} rows. This "
                "pipeline's calls cannot be told apart by image."
            )
        if self._step < 0 or time != self._time or self._halves >= 2:
            self._step, self._halves, self._time = self._step + 1, 0, time
        if self._step in self.positions and self._halves < 2:
            self.kept.append((self._step, self._halves, RecordedCall.of(self.transformer, args, kwargs)))
        self._halves += count // self.images
