"""Files mapped into memory: their bytes as tensors, read around the mapping, and pages let go when they were read.

Pages of a mapped file count as this process's memory once they are touched. Two things keep them from adding up:
whoever reads a tensor once reads its bytes from the file (`read_around`), and whoever has made something of a mapping
maps it anew (`drop_pages`): what is no longer mapped is no longer held, whatever the system thinks of advice.
"""

import ctypes
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Mapped = NDArray[np.uint8]
"""A whole file; a write goes to this process's memory and not to the file."""
_CHUNK = 2**20
_EVERY_S = 0.05
_FIXED = 0x10
"""``MAP_FIXED`` of Linux: in place of what is mapped there, at once for all threads."""
_LIVE: dict[int, tuple[int, int]] = {}
"""Address -> size and open file of every mapping."""


def map_file(path: str | os.PathLike[str], size: int | None = None) -> Mapped:
    """The first ``size`` bytes of a file, all of them if None; readable also when its name is gone.

    Nothing is read yet. The file must not become shorter.
    """
    with Path(path).open("rb") as opened:
        count = os.fstat(opened.fileno()).st_size if size is None else size
        file: Any = np.memmap(opened, np.uint8, mode="c", shape=(count,))
        own = os.dup(opened.fileno())
    address = file.ctypes.data
    _LIVE[address] = count, own
    weakref.finalize(file._mmap, _forget, address, own)
    return file


def tensor_of(file: Mapped, start: int, shape: tuple[int, ...]) -> Tensor:
    """Bytes of a mapped file as a tensor of uint8, which keeps the mapping."""
    count = int(np.prod(shape, dtype=np.int64))
    return torch.from_numpy(file[start : start + count]).view(shape)


def is_mapped(tensor: Tensor) -> bool:
    """Whether a tensor's values lie in a mapped file."""
    return _place(tensor) is not None


def read_around(tensor: Tensor) -> Tensor:
    """A mapped tensor's values read from the file, no page of the mapping touched; another tensor itself."""
    place = _place(tensor)
    if place is None or not hasattr(os, "preadv"):  # Windows has no such call
        return tensor
    result = torch.empty(tensor.shape, dtype=tensor.dtype)
    position, view = place[1], memoryview(result.view(-1).view(torch.uint8).numpy().data)
    while len(view):
        count = os.preadv(place[0], [view], position)
        if not count:
            raise OSError(f"a mapped file ends at byte {position}")
        position, view = position + count, view[count:]
    return result


def bytes_of(tensor: Tensor) -> Iterator[memoryview]:
    """A tensor's bytes in pieces; of a mapped one as `read_around` reads them."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    for piece in flat.split(_CHUNK):
        yield memoryview(read_around(piece).numpy().data)


def drop_pages(file: Mapped) -> None:
    """Hold none of a mapped file's pages; they are read again when somebody touches them. Only Linux can.

    What was written to the mapping is lost.
    """
    if sys.platform != "linux":
        return
    address = file.ctypes.data
    size, opened = _LIVE[address]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    kind = mmap.MAP_PRIVATE | _FIXED
    if libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, kind, opened, 0) != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def read_once(file: Mapped) -> Iterator[None]:
    """While somebody reads all of a mapped file, its pages go soon after they were read, and all of them at the end."""
    done = threading.Event()

    def drop() -> None:
        while not done.wait(_EVERY_S):
            drop_pages(file)

    dropping = threading.Thread(target=drop, daemon=True)
    dropping.start()
    try:
        yield
    finally:
        done.set()
        dropping.join()
        drop_pages(file)


def _place(tensor: Tensor) -> tuple[int, int] | None:
    """Open file and position of a tensor's first byte."""
    if tensor.device.type != "cpu" or not tensor.is_contiguous() or not tensor.numel():
        return None
    start = tensor.data_ptr()
    for address, (size, opened) in tuple(_LIVE.items()):
        if address <= start < address + size:
            return opened, start - address
    return None


def _forget(address: int, opened: int) -> None:
    _LIVE.pop(address, None)
    os.close(opened)
