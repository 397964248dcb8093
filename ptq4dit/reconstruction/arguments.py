"""What a module is called with, for many samples at once: tensors with rows for the samples, and everything else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.utils import _pytree as pytree

Rows = Int[Tensor, " chosen"] | Bool[Tensor, " sample"] | slice


@dataclass(frozen=True, kw_only=True, eq=False)
class Arguments:
    """Positional and keyword arguments of one call, nested tuples, lists and dicts opened up.

    Attributes:
        leaves: what the structure holds, in its order.
        rows: of each leaf: how many of its first axis belong to one sample; 0 for what all samples share.
        structure: how the leaves are put together again.
    """

    leaves: tuple[Any, ...]
    rows: tuple[int, ...]
    structure: pytree.TreeSpec

    def __len__(self) -> int:
        """Number of samples."""
        return next(len(leaf) // rows for leaf, rows in zip(self.leaves, self.rows, strict=True) if rows)

    def take(self, chosen: Rows, device: torch.device | None = None) -> "Arguments":
        """Those of some samples, moved to a device if one is given."""
        leaves = tuple(
            moved(taken(leaf, chosen, rows) if rows else leaf, device)
            for leaf, rows in zip(self.leaves, self.rows, strict=True)
        )
        return replace(self, leaves=leaves)

    def on(self, module: nn.Module) -> tuple[Tensor, ...]:
        """Call a module with them; all tensors that it returns."""
        args, kwargs = pytree.tree_unflatten(list(self.leaves), self.structure)
        return tensors_of(module(*args, **kwargs))


def tensors_of(value: Any) -> tuple[Tensor, ...]:
    """The tensors in a nested structure, in its order."""
    return tuple(leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


def taken(tensor: Tensor, chosen: Rows, rows: int = 1) -> Tensor:
    """The entries of some samples, each of which has ``rows`` of the first axis, one after the other."""
    if rows == 1:
        return tensor[chosen]
    return tensor.unflatten(0, (-1, rows))[chosen].flatten(0, 1)


def moved(value: Any, device: torch.device | None) -> Any:
    """A tensor on a device, if one is given; other values as they are."""
    return value.to(device) if isinstance(value, Tensor) and device is not None else value


def joined(parts: Sequence[Arguments]) -> Arguments:
    """The arguments of all samples from those of one chunk after the other, on the CPU."""
    first = parts[0]
    leaves = tuple(
        torch.cat([part.leaves[i].cpu() for part in parts]) if rows else moved(first.leaves[i], torch.device("cpu"))
        for i, rows in enumerate(first.rows)
    )
    return replace(first, leaves=leaves)
