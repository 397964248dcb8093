"""Work whose pieces processes share, where each of them needs all results: one makes a piece and tells the others.

What comes back is the same, and in the same order, for any number of processes. A sum over it in that order is the
same to the last bit, too. Processes share only what they go through `together`; elsewhere each works for itself.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from ptq4dit.parallel import Processes, processes

_Piece = TypeVar("_Piece")
_TOGETHER: ContextVar[bool] = ContextVar("together", default=False)


@contextmanager
def together() -> Iterator[None]:
    """All processes go through what is inside, each the whole of it, so that they can share its pieces."""
    with _set(True):
        yield


def team() -> Processes:
    """The processes that share the work at hand, as this one sees them; itself alone, unless they are `together`."""
    return processes() if _TOGETHER.get() else Processes()


def shared(pieces: Sequence[_Piece], make: Callable[[_Piece], Sequence[Any]]) -> Iterator[list[Any]]:
    """What ``make`` makes of every piece, in order, in all processes; each piece is made by one of them.

    Args:
        pieces: the same in all processes. They are made as many at a time as there are processes.
        make: returns tensors and what can be pickled. Work inside it is not shared any further.
    """
    here = team()
    for start in range(0, len(pieces), here.count):
        at_once = pieces[start : start + here.count]
        own = None
        if here.rank < len(at_once):
            with _set(False):
                own = list(make(at_once[here.rank]))
        for source in range(len(at_once)):
            yield _heard(own if source == here.rank else None, source, here)


def split(pieces: Sequence[_Piece], parts: int) -> list[Sequence[_Piece]]:
    """Pieces in at most so many runs of about one length, which depend on nothing else."""
    count = min(parts, len(pieces))
    ends = [len(pieces) * i // count for i in range(count + 1)] if count else []
    return [pieces[start:end] for start, end in pairwise(ends)]


@contextmanager
def _set(value: bool) -> Iterator[None]:
    token = _TOGETHER.set(value)
    try:
        yield
    finally:
        _TOGETHER.reset(token)


def _heard(value: list[Any] | None, source: int, here: Processes) -> list[Any]:
    try:
        return _told(value, source, here)
    except RuntimeError as error:  # torch.distributed's word for a process that is not there any more
        others = [rank for rank in range(here.count) if rank != here.rank and source in (rank, here.rank)]
        whose = f"process {others[0]} of {here.count}" if len(others) == 1 else "another process"
        raise ConnectionError(
            f"Expected to share work with {whose}, which has ended or cannot be reached. What is finished is kept; "
            "start the same command again to go on there."
        ) from error


def _told(value: list[Any] | None, source: int, here: Processes) -> list[Any]:
    """What one process has, in all of them: tensors where they are there, on the CPU or on each one's own device."""
    if here.count == 1:
        assert value is not None
        return value
    from accelerate import PartialState
    from torch import distributed

    way = PartialState().device
    heads: list[Any] = [None if value is None else [_head(one) for one in value]]
    distributed.broadcast_object_list(heads, src=source, device=way)
    result = []
    for index, head in enumerate(heads[0]):
        if not isinstance(head, _Head):
            result.append(head)
            continue
        known = torch.empty(head.shape, dtype=head.dtype) if value is None else value[index].detach()
        sent = known.to(way).contiguous()
        if sent.numel():
            distributed.broadcast(sent.flatten().view(torch.uint8), src=source)
        result.append(known if value is not None else sent if head.on_device else sent.cpu())
    return result


class _Head:
    """What must be known of a tensor before it comes."""

    def __init__(self, tensor: Tensor) -> None:
        self.shape, self.dtype, self.on_device = tuple(tensor.shape), tensor.dtype, tensor.device.type != "cpu"


def _head(value: Any) -> Any:
    return _Head(value) if isinstance(value, Tensor) else value
