"""Two 4-bit integers in one byte: how weights of four bits and fewer are stored."""

import torch
from jaxtyping import UInt8
from torch import Tensor


def pack_int4(q: UInt8[Tensor, "row column"]) -> UInt8[Tensor, "row packed"]:
    """Pack pairs of neighbouring columns, the first of a pair in the low half of the byte.

    Args:
        q: values from 0 to 15.

    Returns:
        ``(rows, ceil(columns / 2))``; an odd last column shares its byte with a zero.

    Raises:
        ValueError: if a value needs more than four bits.
    """
    if q.numel() and int(q.max()) > 15:
        raise ValueError(f"Expected values from 0 to 15, got {int(q.max())}. Store wider integers as bytes.")
    padded = torch.nn.functional.pad(q, (0, q.shape[1] % 2))
    return padded[:, ::2] | (padded[:, 1::2] << 4)


def unpack_int4(packed: UInt8[Tensor, "row packed"], columns: int) -> UInt8[Tensor, "row column"]:
    """The values that `pack_int4` packed.

    Args:
        packed: ``(rows, ceil(columns / 2))``.
        columns: number of columns to restore.

    Raises:
        ValueError: if that many columns do not fit the packed ones.
    """
    if packed.shape[1] != (columns + 1) // 2:
        raise ValueError(f"Expected {(columns + 1) // 2} packed columns for {columns}, got {packed.shape[1]}.")
    return torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)[:, :columns].contiguous()
