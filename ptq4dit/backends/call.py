"""One call of a transformer taken apart: which tensors it gives, and all else, in a form that can be compared."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as tree

_PLAIN = (Tensor, type(None), bool, int, float, str, torch.dtype, torch.device)


@dataclass(frozen=True, kw_only=True, eq=False)
class TakenCall:
    """The arguments of a call as a list of leaves; tensors inside lists and dicts are leaves of their own.

    Attributes:
        signature: of the function that is called.
        leaves: tensors and constants.
        names: of each leaf, such as ``"added_cond_kwargs['resolution']"``.
        spec: how they are put together again.
    """

    signature: inspect.Signature
    leaves: tuple[Any, ...]
    names: tuple[str, ...]
    spec: Any

    @property
    def tensors(self) -> list[int]:
        """Which leaves are tensors."""
        return [index for index, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]

    @property
    def structure(self) -> str:
        """All but the sizes and values of the tensors, as text."""
        kinds = [f"{name}={_kind(leaf)}" for name, leaf in zip(self.names, self.leaves, strict=True)]
        return f"{self.spec} {' '.join(kinds)}"

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of all tensors."""
        return tuple(tuple(self.leaves[index].shape) for index in self.tensors)

    def arguments(self, replaced: Mapping[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments, some leaves replaced."""
        leaves = [replaced.get(index, leaf) for index, leaf in enumerate(self.leaves)]
        bound = self.signature.bind_partial()
        bound.arguments.update(tree.tree_unflatten(leaves, self.spec))
        return bound.args, bound.kwargs


def take_apart(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> TakenCall:
    """A call of ``function``: what is passed by position and what by name, given or left out, is the same call.

    Raises:
        ValueError: for an argument that a compiled graph can be neither given nor made for.
    """
    signature = inspect.signature(function)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    pairs, spec = tree.tree_flatten_with_path(dict(bound.arguments))
    names = tuple(f"{path[0].key}{tree.keystr(path[1:])}" for path, _ in pairs)  # type: ignore[attr-defined]
    for name, (_, leaf) in zip(names, pairs, strict=True):
        if not isinstance(leaf, _PLAIN):
            raise ValueError(
                f"Expected tensors, numbers, text or None in {name!r} for the integer backend, got a "
                f'{type(leaf).__name__}. Leave it out, or choose backend="simulated".'
            )
    return TakenCall(signature=signature, leaves=tuple(leaf for _, leaf in pairs), names=names, spec=spec)


def named(call: TakenCall, leaves: Iterable[int]) -> str:
    """Some leaves' names in a sentence."""
    return ", ".join(repr(call.names[index]) for index in sorted(leaves))


def _kind(leaf: Any) -> str:
    if not isinstance(leaf, Tensor):
        return repr(leaf)
    kind = "float" if leaf.is_floating_point() else str(leaf.dtype)
    return f"<{kind}, {leaf.ndim} axes>"
