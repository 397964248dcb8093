"""Which group of timesteps a forward pass belongs to, for quantizers whose static scale depends on the timestep."""

import threading
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn


class _Told(threading.local):
    """What each clock was told last in this thread: one model draws pictures in several threads at once."""

    def __init__(self) -> None:
        self.groups: WeakKeyDictionary[TimestepClock, Int[Tensor, " row"]] = WeakKeyDictionary()


_TOLD = _Told()


class TimestepClock(nn.Module):
    """Knows the timestep group of every row of the current batch; one per transformer, shared by its quantizers.

    The groups split the calibrated timesteps into runs of equal length, noisiest first; the boundaries are saved.
    The clock is set by a hook on the transformer, or by `tell` where blocks are run on their own; what it is told
    holds for the thread that tells it.
    """

    boundaries: Tensor

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.register_buffer("boundaries", torch.zeros(groups - 1))

    @property
    def groups(self) -> Int[Tensor, " row"] | None:
        """The group of every row of this thread's batch; None before it is told."""
        return _TOLD.groups.get(self)

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.boundaries) + 1

    def fit(self, timesteps: Shaped[Tensor, " timestep"]) -> list[slice]:
        """Place the boundaries halfway between neighbouring groups; returns each group's slice of ``timesteps``.

        Args:
            timesteps: the calibrated timesteps, noisiest first.

        Raises:
            ValueError: if there are fewer timesteps than groups.
        """
        if len(timesteps) < self.count:
            raise ValueError(
                f"Expected at least as many calibrated timesteps as groups, got {len(timesteps)} for {self.count} "
                "groups. Calibrate more timesteps or lower timestep_groups."
            )
        ends = [round(i * len(timesteps) / self.count) for i in range(self.count + 1)]
        halfway = [(float(timesteps[end - 1]) + float(timesteps[end])) / 2 for end in ends[1:-1]]
        self.boundaries.copy_(torch.tensor(halfway))
        return [slice(start, end) for start, end in pairwise(ends)]

    def tell(self, timesteps: Tensor) -> None:
        """Set the groups of the rows of a batch from their timesteps, ``(rows,)`` or ``()``."""
        later = timesteps.reshape(-1, 1).to(self.boundaries) < self.boundaries
        _TOLD.groups[self] = later.sum(dim=1)

    def pick(self, values: Shaped[Tensor, " group"], x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Each row's entry of ``values``, shaped to broadcast against ``x`` ``(rows, ...)``.

        Raises:
            ValueError: if nobody told the timesteps, or they differ and ``x`` has another number of rows.
        """
        groups = self.groups
        if groups is None:
            raise ValueError(
                "The timestep of this forward pass is not known. Run the whole transformer, or tell the clock first: "
                "transformer.ptq4dit_clock.tell(timesteps)."
            )
        if len(groups) not in (1, len(x)):
            if not bool((groups == groups[0]).all()):
                raise ValueError(
                    f"Expected a row for each of {len(groups)} timesteps, got {len(x)} rows in the model. Call it with "
                    "one timestep at a time."
                )
            groups = groups[:1]
        return values[groups.to(values.device)].reshape(-1, *(1,) * (x.ndim - 1))


def attach_clock(transformer: nn.Module, clock: TimestepClock) -> None:
    """Make the clock part of a transformer, told by every forward pass which timesteps it is for."""
    transformer.add_module("ptq4dit_clock", clock)
    transformer.register_forward_pre_hook(_Listener(), with_kwargs=True)


class _Listener:
    """Finds the clock on the module that is called, so that a copied transformer tells its own one."""

    changes_nothing = True
    """A forward in two parts may leave this hook out: it tells the clock itself."""

    def __call__(self, transformer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        timesteps = kwargs.get("timestep", args[1] if len(args) > 1 else None)
        if timesteps is not None:
            clock = transformer.get_submodule("ptq4dit_clock")
            assert isinstance(clock, TimestepClock)
            clock.tell(torch.as_tensor(timesteps))
