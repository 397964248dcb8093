"""A quantized transformer's tensors as files hold them: four bits in half a byte, repeated tensors once."""

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ptq4dit.config.record import QuantRecord
from ptq4dit.numerics.packing import pack_int4, unpack_int4

INTEGERS, _ZERO_POINT = ".weight_q", "zero_point"
"""How names of integers end, and of zero points."""


def packed_names(record: QuantRecord) -> set[str]:
    """Names of the integers that need four bits at most."""
    return {
        f"{path}{INTEGERS}"
        for name, paths in record.layers.items()
        if record.settings[name].weight_bits <= 4
        for path in paths
    }


def pack(state: Mapping[str, Tensor], packed: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors to store, on the CPU, and for each repeated one the name of its first occurrence.

    Args:
        state: a state dict.
        packed: names of integers that share bytes, see `packed_names`.
    """
    halves = set(packed)
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu().contiguous()
        value = pack_int4(value) if name in halves else value
        value = _in_a_byte(value) if name.endswith(_ZERO_POINT) else value
        raw = value.view(torch.uint8) if value.ndim else value.reshape(1).view(torch.uint8)
        kind = (name in halves, name.endswith(_ZERO_POINT), value.dtype, value.shape)
        key = (*kind, hashlib.blake2b(raw.numpy().data).digest())
        if key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            stored[name] = value.clone() if value.data_ptr() == tensor.data_ptr() else value
    return stored, aliases


def packed_shape(name: str, shape: torch.Size, packed: set[str]) -> tuple[int, ...]:
    """The shape in the file of a tensor of this shape in the model."""
    return (shape[0], (shape[1] + 1) // 2) if name in packed else tuple(shape)


def unpack(
    stored: Mapping[str, Tensor], aliases: Mapping[str, str], expected: Mapping[str, Tensor], packed: set[str]
) -> dict[str, Tensor]:
    """What was packed: each stored tensor, and its copies, as the model has them.

    Copies of parameters share memory, as in the float model they may; copies of buffers do not, which are changed in
    place.

    Args:
        stored: tensors of one file.
        aliases: name -> name of its first occurrence; those of other files are left out.
        expected: the model's own tensors by name: shape, and type of integers.
        packed: names of integers that share bytes.
    """
    copies: dict[str, list[str]] = {}
    for name, original in aliases.items():
        copies.setdefault(original, []).append(name)
    state: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        value = unpack_int4(tensor, expected[name].shape[1]) if name in packed else tensor
        value = value.to(expected[name].dtype) if name.endswith(_ZERO_POINT) else value
        state[name] = value
        for copy in copies.get(name, ()):
            state[copy] = value if isinstance(expected[copy], nn.Parameter) else value.clone()
    return state


def _in_a_byte(value: Tensor) -> Tensor:
    fits = not value.numel() or (int(value.min()) >= 0 and int(value.max()) <= 255)
    return value.to(torch.uint8) if fits else value
