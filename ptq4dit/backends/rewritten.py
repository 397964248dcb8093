"""Operations of torch that OpenVINO converts wrongly or not at all, written in others; used inside traces only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rewriting:
    """Another way to compute what a function computes.

    Attributes:
        fits: whether it is one for these arguments.
        run: computes it.
    """

    fits: Callable[..., bool]
    run: Callable[..., Any]


def _is_every_nth(target: Tensor, index: Any, value: Any) -> bool:
    """``target[..., start::step] = value``, which OpenVINO 2026.4 writes to wrong places."""
    if not (isinstance(index, tuple) and len(index) == 2 and index[0] is Ellipsis and isinstance(index[1], slice)):
        return False
    part = index[1]
    whole = part.stop is None and part.step is not None and part.step > 1
    return whole and isinstance(value, Tensor) and int(target.shape[-1]) % part.step == 0


def _set_every_nth(target: Tensor, index: tuple[Any, slice], value: Tensor) -> None:
    start, step = index[1].start or 0, index[1].step
    here = torch.arange(int(target.shape[-1])) % step == start
    target.copy_(torch.where(here, torch.stack([value] * step, dim=-1).flatten(-2), target))


def _padded(sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0, *_: Any) -> Tensor:
    """``torch.nn.utils.rnn.pad_sequence``, whose sizes become the trace's."""
    longest = max(int(sequence.shape[0]) for sequence in sequences)
    rows = [
        torch.cat([sequence, sequence.new_full((longest - int(sequence.shape[0]), *sequence.shape[1:]), padding_value)])
        for sequence in sequences
    ]
    return torch.stack(rows, dim=0 if batch_first else 1)


REWRITTEN = {
    "__setitem__": Rewriting(fits=_is_every_nth, run=_set_every_nth),
    "pad_sequence": Rewriting(fits=lambda *_, **__: True, run=_padded),
}
"""Name of the function -> what is run in its place."""
