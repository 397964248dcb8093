"""Integers of weights left on disk: mapped into memory, read when somebody asks for them."""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptq4dit.backends.openvino_cache import CompiledCache, payload_bytes
from ptq4dit.quantized.linear import QuantizedLinear


def map_integers(transformer: Any, cache: CompiledCache, key: str) -> Callable[[], None]:
    """Replace ``weight_q`` of all quantized linears by the same integers in a file of the cache, in place.

    They are needed to save the model, and those of the modulation once a run; the compiled step has its own. A file
    that is mapped stays readable when the cache removes it.

    Args:
        transformer: a lean transformer, see `shared_copies.lean_copy`.
        cache: where the file is, or is written.
        key: of the compiled model, which says what the integers are.

    Returns:
        What gives back the memory of those that were read; they are read again when needed.
    """
    linears = [module for module in transformer.modules() if isinstance(module, QuantizedLinear)]
    linears = [linear for linear in linears if hasattr(linear, "weight_q")]
    name = f"{key}-integers"
    path = cache.find(name) or cache.store(name, lambda file: _write(linears, file))
    file = np.memmap(path, np.uint8, mode="c", shape=(payload_bytes(path),))
    data = torch.from_numpy(file)
    position = 0
    for linear in linears:
        count = linear.weight_q.numel()
        linear.weight_q = data[position : position + count].view_as(linear.weight_q)
        position += count
    return lambda: release_pages(file)


def release_pages(file: Any) -> None:
    """Give back the memory of a mapped file's pages; they are read again when needed."""
    if hasattr(mmap, "MADV_DONTNEED"):  # Windows has no such call, and keeps the pages
        file._mmap.madvise(mmap.MADV_DONTNEED)


def _write(linears: list[QuantizedLinear], path: Path) -> None:
    with path.open("wb") as file:
        for linear in linears:
            file.write(linear.weight_q.detach().contiguous().numpy().data)
