"""What stands beside the tensors in a quantized transformer's files: types of what is not saved, copies, frequencies.

diffusers saves a state dict and hands no model to the quantizer; so the facts come with the state dict, put there by
a hook, and go into every file's metadata.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.modeling import get_non_persistent_buffers
from torch import nn

from ptq4dit.config.record import required_dict, required_text, short
from ptq4dit.model.frequencies import frequencies_of
from ptq4dit.model.streamed import stored_value
from ptq4dit.storage.untrusted import read_headers

KEY = "ptq4dit"
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a reader of the files needs to know beyond the tensors in them.

    Attributes:
        dtype: floating type of the transformer.
        buffers: buffers that are not saved and have another type, such as a position table that stayed float32.
        frequencies: spacing of a DiT's timestep frequencies.
        aliases: repeated tensors: name -> name of the first occurrence.
    """

    dtype: torch.dtype
    buffers: Mapping[str, torch.dtype]
    frequencies: str
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of a transformer, their headers read: facts, and the type and shape of every stored tensor."""

    facts: Facts
    types: Mapping[str, torch.dtype]
    shapes: Mapping[str, tuple[int, ...]]

    def checked(self) -> "Files":
        """Itself.

        Raises:
            ValueError: if a copy is one of no stored tensor.
        """
        for copy, original in self.facts.aliases.items():
            if original not in self.types or copy in self.types:
                raise ValueError(f"Expected copies of stored tensors, got {short(copy)} as one of {short(original)}.")
        return self


def tell_facts(transformer: nn.Module) -> None:
    """Have every state dict of a transformer bring its facts along (`told`), and what is on disk, mapped."""
    if _note not in transformer._state_dict_hooks.values():
        transformer.register_state_dict_post_hook(_note)


def facts_of(transformer: Any) -> Facts:
    """The facts of a live transformer, copies apart."""
    buffers = dict(transformer.named_buffers(remove_duplicate=False))
    unsaved = get_non_persistent_buffers(transformer, recurse=True, fqns=True)
    dtype = getattr(transformer, "dtype", None) or _dtype_of(transformer)
    return Facts(
        dtype=dtype,
        buffers={
            name: buffer.dtype
            for name, buffer in buffers.items()
            if name in unsaved and buffer.is_floating_point() and buffer.dtype != dtype
        },
        frequencies=frequencies_of(transformer),
    )


def _dtype_of(module: nn.Module) -> torch.dtype:
    """The floating type of a module that does not say it, as a diffusers model does."""
    return next((value.dtype for value in module.parameters() if value.is_floating_point()), torch.float32)


def told(state: Mapping[str, Any]) -> Facts:
    """The facts that came with a state dict.

    Raises:
        ValueError: if it has none, as one that was taken apart and put together.
    """
    found = getattr(state, "_metadata", {}).get("", {}).get(KEY)
    if not isinstance(found, Facts):
        raise ValueError("Expected the state dict that a quantized transformer gives, got one that was made otherwise.")
    return found


def to_metadata(facts: Facts, aliases: Mapping[str, str]) -> dict[str, str]:
    """Metadata of the files."""
    names: dict[str, list[str]] = {}
    for name, dtype in facts.buffers.items():
        names.setdefault(_name(dtype), []).append(name)
    content = {
        "dtype": _name(facts.dtype),
        "buffers": names,
        "frequencies": facts.frequencies,
        "aliases": dict(aliases),
    }
    return {KEY: json.dumps(content)}


def read_files(paths: Sequence[str | Path]) -> Files:
    """Facts and headers of the files that hold a transformer; no tensor is read.

    Raises:
        ValueError: if they are no safetensors, damaged, or have no facts or wrong ones.
    """
    types, shapes, metadata = read_headers(paths)
    return Files(facts=_facts(metadata.get(KEY)), types=types, shapes=shapes).checked()


def _facts(text: str | None) -> Facts:
    try:
        content = json.loads(text or "")
    except ValueError:
        content = None
    if not isinstance(content, dict) or set(content) != {"dtype", "buffers", "frequencies", "aliases"}:
        raise ValueError(
            "Expected the files of a quantized transformer, got others. Write them with save_quantized(...) or "
            "save_pretrained(...)."
        )
    aliases, buffers = required_dict(content, "aliases"), required_dict(content, "buffers")
    for name, original in aliases.items():
        if not isinstance(original, str):
            raise ValueError(f"Expected the name of a tensor that {short(name)} repeats, got {short(original)}.")
    for names in buffers.values():
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError(f"Expected names of buffers, got {short(names)}.")
    return Facts(
        dtype=as_floating(required_text(content, "dtype")),
        buffers={name: as_floating(dtype) for dtype, names in buffers.items() for name in names},
        frequencies=required_text(content, "frequencies"),
        aliases=aliases,
    )


def as_floating(name: str) -> torch.dtype:
    """A floating type by the name that files give it.

    Raises:
        ValueError: if there is none.
    """
    found = {_name(dtype): dtype for dtype in _FLOATS}.get(name)
    if found is None:
        raise ValueError(f"Expected the name of a floating torch dtype, got {short(name)}. Quantize again.")
    return found


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _note(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]) -> None:
    if not prefix:
        local_metadata[KEY] = facts_of(module)
        state.update({name: stored_value(module, name, value) for name, value in state.items() if value.is_meta})
