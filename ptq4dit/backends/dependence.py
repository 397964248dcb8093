"""Which inputs of a forward pass decide something outside its tensors, and what in it depends on no input at all.

A trace records operations on tensors. Where a forward turns a tensor's values into Python numbers, or into the size of
another tensor, the trace holds the numbers of the call that was traced: those inputs have to be constants of the
graph, and another value of theirs needs another graph.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree
from torch.utils.weak import WeakIdKeyDictionary

from ptq4dit.backends.rewritten import REWRITTEN

_NOTHING: frozenset[int] = frozenset()
_OF_THE_KIND = frozenset(
    {"size", "dim", "ndimension", "numel", "nelement", "stride", "__len__", "is_floating_point"}
    | {"is_complex", "is_contiguous", "element_size", "storage_offset", "get_device", "data_ptr", "__hash__"}
    | {"is_same_size", "type", "is_signed", "is_inference", "__repr__", "__format__", "is_pinned", "__deepcopy__"}
    | {"is_tensor", "is_grad_enabled", "numpy_T", "result_type", "promote_types", "can_cast", "untyped_storage"}
)
"""Functions whose answer is about a tensor and not of its values: shapes, which a trace follows, types, memory."""
_VALUES = frozenset({"T", "mT", "H", "mH", "data", "real", "imag"})
"""Properties that are not about a tensor, but of its values."""
_SIZED_BY = {"nonzero": 0, "masked_select": 1, "unique": 0, "unique_consecutive": 0, "repeat_interleave": 1}
"""Functions whose result is as large as the values of an argument say."""


class Dependence(TorchFunctionMode):
    """Follows values through a forward pass, from inputs that are told apart by number.

    Attributes:
        read: numbers of the inputs whose values became Python numbers or sizes.
    """

    def __init__(self, inputs: Mapping[int, Tensor], *, tracing: bool = False) -> None:
        """Before the forward pass.

        Args:
            inputs: number -> the tensor that the forward pass is given.
            tracing: inside a trace, compute complex numbers that depend on no input at once, as constants (positions'
                rotations, on which OpenVINO has few operations), and write what it has no operation for, or a wrong
                one, in others (`rewritten`).
        """
        super().__init__()
        self.read: set[int] = set()
        self._tracing = tracing
        self._origins = WeakIdKeyDictionary()
        for number, tensor in inputs.items():
            self._origins[tensor] = frozenset({number})

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [leaf for leaf in tree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        origins = _NOTHING.union(*(self._origins.get(tensor, _NOTHING) for tensor in given))
        name = getattr(func, "__name__", str(func))
        if self._tracing and not origins and _makes_complex(name, given):
            result = _outside_the_trace(func, args, kwargs or {})
        elif self._tracing and name in REWRITTEN and REWRITTEN[name].fits(*args, **(kwargs or {})):
            result = REWRITTEN[name].run(*args, **(kwargs or {}))
        else:
            result = func(*args, **(kwargs or {}))
        if origins and not _about(func, name):
            self._follow(name, args, result, origins)
        return result

    def _follow(self, name: str, args: Sequence[Any], result: Any, origins: frozenset[int]) -> None:
        made = [leaf for leaf in tree.tree_leaves(result) if isinstance(leaf, Tensor)]
        for tensor in made:
            self._origins[tensor] = origins
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):
            self._origins[args[0]] = origins | self._origins.get(args[0], _NOTHING)
        elif not made and result is not None:
            self.read |= origins
        self.read |= self._sizes(name, args)

    def _sizes(self, name: str, args: Sequence[Any]) -> frozenset[int]:
        """Inputs that decide how large the result is."""
        deciding: list[Any] = []
        if name in _SIZED_BY:
            deciding = list(args[_SIZED_BY[name] : _SIZED_BY[name] + 1])
        elif name == "where" and len(args) == 1:
            deciding = [args[0]]
        elif name == "__getitem__":
            deciding = [leaf for leaf in tree.tree_leaves(args[1]) if getattr(leaf, "dtype", None) == torch.bool]
        tensors = [leaf for leaf in deciding if isinstance(leaf, Tensor)]
        return _NOTHING.union(*(self._origins.get(tensor, _NOTHING) for tensor in tensors))


def _about(func: Any, name: str) -> bool:
    if name == "__get__":
        return func.__self__.__name__ not in _VALUES
    return name in _OF_THE_KIND


def _makes_complex(name: str, given: Sequence[Tensor]) -> bool:
    return name in ("polar", "complex", "view_as_complex") or any(tensor.is_complex() for tensor in given)


def _outside_the_trace(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        return func(*args, **kwargs)
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]
