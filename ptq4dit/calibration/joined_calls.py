"""Recorded calls put behind each other: every sample once, in an order that does not depend on the batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ptq4dit.calibration.recorded_calls import RecordedCall, Rows, pick


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A call, and which samples it holds.

    Attributes:
        step: which step of the sampling run it belongs to.
        half: of guidance, by the order in which the pipeline computes them; of its first rows if it holds both.
        images: those of the run.
        call: rows of all images, then those of the other half if it holds both.
    """

    step: int
    half: int
    images: range
    call: RecordedCall

    def places(self) -> list[tuple[int, int, int]]:
        """(step, half, image) of every row."""
        halves = range(self.half, self.half + len(self.call.latents) // len(self.images))
        return [(self.step, half, image) for half in halves for image in self.images]


def join(parts: Sequence[Part]) -> dict[str, Any]:
    """All samples, ordered by step, half of guidance (with the condition first) and image.

    Returns:
        The fields of `Trajectories` but for its config.

    Raises:
        ValueError: if the calls differ in more than their samples.
    """
    calls = _padded([part.call for part in parts])
    places = [place for part in parts for place in part.places()]
    conditions = {name: _cat([call.conditions[name] for call in calls]) for name in calls[0].conditions}
    halves = torch.tensor([half for _, half, _ in places])
    if halves.any() and _second_is_conditional(
        halves, conditions, batched=len(calls[0].latents) > len(parts[0].images)
    ):
        halves = 1 - halves
    keys = [(step, half, image) for (step, _, image), half in zip(places, halves.tolist(), strict=True)]
    order = torch.tensor(sorted(range(len(keys)), key=keys.__getitem__))
    return {
        "latents": torch.cat([call.latents for call in calls])[order],
        "timesteps": torch.cat([call.timesteps for call in calls])[order],
        "images": torch.tensor([image for *_, image in places])[order],
        "halves": halves[order],
        "conditions": {name: pick(value, order) for name, value in conditions.items()},
        "constants": calls[0].constants,
        "names": calls[0].names,
    }


def _second_is_conditional(halves: Int[Tensor, " n"], conditions: Mapping[str, Rows], *, batched: bool) -> bool:
    """Whether the half computed second has the images' own conditions.

    The other half has the same conditions for every image, so that they vary less there. Where both vary alike (one
    prompt for all images): pipelines that compute both in one batch put the unconditional half first, but for classes;
    those that compute one after the other begin with the conditional one.
    """
    variety = [
        sum(_variety(pick(value, (halves == half).nonzero()[:, 0])) for value in conditions.values()) for half in (0, 1)
    ]
    if variety[0] != variety[1]:
        return variety[1] > variety[0]
    return batched and "class_labels" not in conditions


def _variety(value: Rows) -> int:
    """How many different entries there are."""
    return len({(tuple(one.shape), one.cpu().float().numpy().tobytes()) for one in value})


def _cat(values: Sequence[Rows]) -> Rows:
    if any(isinstance(value, list) for value in values):
        return [one for value in values for one in value]
    return torch.cat([value for value in values if isinstance(value, Tensor)])


def _padded(calls: Sequence[RecordedCall]) -> list[RecordedCall]:
    """The calls with prompts of one length, masks where there are any or where lengths differ, and equal constants."""
    names = dict.fromkeys(name for call in calls for name in call.conditions)
    if _lengths_differ(calls):
        masks = [name for name, value in calls[0].constants.items() if "mask" in name and value is None]
        names |= dict.fromkeys(masks)
    for name in names:
        missing = [call for call in calls if name not in call.conditions]
        for call in missing:
            call.conditions[name] = _full_mask(name, call)
            call.constants.pop(name)
    for name in names:
        tensors = [value for call in calls if isinstance(value := call.conditions[name], Tensor) and value.ndim > 1]
        longest = max((tensor.shape[1] for tensor in tensors), default=0)
        for call in calls:
            call.conditions[name] = _longer(call.conditions[name], longest)
    for call in calls:
        _require_alike(calls[0], call)
    return list(calls)


def _lengths_differ(calls: Sequence[RecordedCall]) -> bool:
    shapes = [
        {n: v.shape[1:] for n, v in call.conditions.items() if isinstance(v, Tensor) and v.ndim > 2} for call in calls
    ]
    return any(shape != shapes[0] for shape in shapes)


def _full_mask(name: str, call: RecordedCall) -> Tensor:
    """A mask that hides nothing of a call's prompts."""
    prompts = call.conditions.get("encoder_hidden_states")
    if "mask" not in name or name not in call.constants or not isinstance(prompts, Tensor):
        raise ValueError(f"Expected {name!r} in every call of the transformer, or in none, got it in some.")
    return torch.ones(prompts.shape[:2], dtype=torch.bool)


def _longer(value: Rows, length: int) -> Rows:
    if isinstance(value, list) or value.ndim < 2 or value.shape[1] >= length:
        return value
    padding = value.new_zeros(value.shape[0], length - value.shape[1], *value.shape[2:])
    return torch.cat([value, padding], dim=1)


def _require_alike(one: RecordedCall, other: RecordedCall) -> None:
    same = one.names == other.names and one.constants.keys() == other.constants.keys()
    for name, value in one.constants.items() if same else ():
        if not _equal(value, other.constants[name]):
            raise ValueError(
                f"Expected calls of the transformer that differ in their samples only, got another {name!r}. Use "
                "prompts of one length and pictures of one size."
            )
    if not same:
        raise ValueError(
            f"Expected calls of the transformer with the same arguments, got {sorted(one.constants)} and "
            f"{sorted(other.constants)}."
        )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    return bool(one == other)
