"""Integers of weights left on disk: those of a model in memory put into a file, those of a graph while it is built."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import opset15 as op
from torch import nn

from ptq4dit.backends.openvino_cache import CompiledCache, content_key, payload_bytes
from ptq4dit.numerics.packing import pack_int4
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.storage.mapped_file import bytes_of, is_mapped, map_file, tensor_of

_HALF_BYTE = 4
_ALIGNED = 64


class _Constants:
    """A file of constants that is written as they come, and mapped whole."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = path.open("wb")
        self._file.truncate(size)
        with path.open("rb") as reading:
            self._map = np.memmap(reading, np.uint8, mode="c", shape=(size,))
        self._end = 0

    def keep(self, values: NDArray[np.int8]) -> NDArray[np.int8]:
        """The same values in the file."""
        start, self._end = self._end, -(-(self._end + values.nbytes) // _ALIGNED) * _ALIGNED
        self._file.seek(start)
        self._file.write(np.ascontiguousarray(values).data)
        self._file.flush()
        return self._map[start : start + values.nbytes].view(np.int8).reshape(values.shape)

    def close(self) -> None:
        """No more come."""
        self._file.truncate(max(self._end, 1))
        self._file.close()


_CONSTANTS: ContextVar[_Constants | None] = ContextVar("constants", default=None)


@contextmanager
def constants_in(path: Path, twin: nn.Module) -> Iterator[None]:
    """A ``with`` block in which `byte_constant` puts what it is given into a file.

    Args:
        path: of the file, needed as long as the graph is.
        twin: whose quantized linears the graph will hold, each as two constants at most.
    """
    linears = [module for module in twin.modules() if isinstance(module, QuantizedLinear)]
    room = sum(2 * (linear.in_features * linear.out_features + _ALIGNED) for linear in linears)
    constants = _Constants(path, max(room, 1))
    token = _CONSTANTS.set(constants)
    try:
        yield
    finally:
        _CONSTANTS.reset(token)
        constants.close()


def byte_constant(values: NDArray[np.int8]) -> Any:
    """A constant of a graph; in a file where there is one (`constants_in`), else a copy of its own."""
    constants = _CONSTANTS.get()
    return op.constant(values) if constants is None else op.constant(constants.keep(values), shared_memory=True)


def map_integers(transformer: Any, cache: CompiledCache) -> None:
    """Replace integers that are in memory by the same in a file of the cache, in place.

    They are needed to save the model only; what is compiled has its own. A file that is mapped stays readable when the
    cache removes it.

    Args:
        transformer: a lean transformer, see `shared_copies.lean_copy`.
        cache: where the file is, or is written.
    """
    linears = [module for module in transformer.modules() if isinstance(module, QuantizedLinear)]
    linears = [linear for linear in linears if hasattr(linear, "weight_q") and not is_mapped(linear.weight_q)]
    if not linears:
        return
    key = content_key(piece for linear in linears for piece in stored_integers(linear))
    name = f"{key}-integers"
    path = cache.find(name) or cache.store(name, lambda file: _write(linears, file))
    file, position = map_file(path, payload_bytes(path)), 0
    for linear in linears:
        rows, columns = linear.out_features, linear.in_features
        shape = rows, (columns + 1) // 2 if linear.config.weight_bits <= _HALF_BYTE else columns
        linear.weight_q = tensor_of(file, position, shape)
        position += linear.weight_q.numel()


def stored_integers(linear: QuantizedLinear) -> Iterator[memoryview]:
    """The integers as files hold them, in pieces: up to four bits two to a byte."""
    whole = linear.weight_q.shape == (linear.out_features, linear.in_features)
    pack = whole and linear.config.weight_bits <= _HALF_BYTE
    return bytes_of(pack_int4(linear.weight_q) if pack else linear.weight_q)


def _write(linears: list[QuantizedLinear], path: Path) -> None:
    with path.open("wb") as file:
        for linear in linears:
            for piece in stored_integers(linear):
                file.write(piece)
