"""Sizes that a stranger's pipeline folder claims, believed as far as there are bytes for them."""

import inspect
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ptq4dit.config.record import short
from ptq4dit.storage.strict_json import read_strict_json
from ptq4dit.storage.untrusted import read_headers

CONFIG, INDEX = "config.json", "model_index.json"
_SCHEDULER = "scheduler_config.json"
_REPEATED = ("layers", "blocks", "depth")
_LARGEST, _LONGEST_SCHEDULE = 10_000_000, 100_000
_SPARE = 2**28
"""Bytes that tables which are no tensors of the files may take, whatever the size of the files."""
_SMALLEST = 64
"""Bytes of a pickle that a tensor takes at least."""


def require_sizes(part: Path, aliases: int = 0, *, foreign: bool = False) -> None:
    """Refuse configs of a component that would have a model built that the files beside them cannot fill.

    Args:
        part: the component's folder.
        aliases: tensors that are copies of stored ones, where the files do not say so themselves.
        foreign: not diffusers' own: only numbers of layers are looked at, others may mean anything.

    Raises:
        ValueError: if a number in them is beyond what the files have room for.
    """
    tensors = _count_tensors(part) + aliases
    for path in part.glob("*config.json"):
        if foreign and path.name != CONFIG:
            continue
        content = read_strict_json(path, infinities=True)
        if not isinstance(content, dict):
            raise ValueError(f"Expected an object in {path.name!r} of {part.name!r}, got {type(content).__name__}.")
        if path.name not in (CONFIG, _SCHEDULER):
            continue
        if not foreign:
            _require_numbers(part, content)
        limit = _LARGEST if path.name == CONFIG else _LONGEST_SCHEDULE
        content = {name: value for name, value in content.items() if name != "quantization_config"}
        for name, value in _integers(content):
            repeated = bool(tensors) and any(word in name for word in _REPEATED)
            if abs(value) > (tensors if repeated else limit) and (repeated or not foreign):
                raise ValueError(
                    f"Expected {name} of {part.name!r} to fit its files, got {value} where they have room for "
                    f"{tensors if repeated else limit}."
                )


def rehearsed(part: Path) -> nn.Module | None:
    """The model of a component's config, built without memory.

    Returns:
        The model on the meta device; None for a class that cannot be built there.

    Raises:
        ValueError: if the config is none of a diffusers model, or what would be built does not fit the files.
    """
    config = read_strict_json(part / CONFIG, infinities=True)
    name = config.get("_class_name") if isinstance(config, dict) else None
    kind: Any = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise ValueError(f"Expected the name of a diffusers model in {part.name!r}, got {short(name)}.")
    made: Any = kind
    try:
        with torch.device("meta"):
            model = made.from_config({k: v for k, v in config.items() if k != "quantization_config"})
    except (NotImplementedError, RuntimeError):  # it asks for the values of a tensor, which here has none
        return None
    tables = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    held = sum(path.stat().st_size for path in part.iterdir() if path.is_file())
    if tables > _SPARE + 16 * held:
        raise ValueError(
            f"Expected tables that fit {held} bytes of weights, got {tables} bytes. {part.name!r} is not what it says."
        )
    return model


def require_filled(model: nn.Module, part: Path) -> None:
    """Refuse files that do not hold the weights of the model that stands beside them, so far as their headers tell.

    Raises:
        ValueError: if weights would take far more memory than there are bytes, are no floats, or a block of the files
            is not in the model.
    """
    paths = weight_files(part)
    if not paths:
        return  # pickles tell nothing before they are read
    types, shapes, _ = read_headers(paths)
    held = sum(path.stat().st_size for path in paths)
    wanted = sum(parameter.numel() for parameter in model.parameters())
    if wanted > _SPARE + 16 * held:
        raise ValueError(f"Expected {part.name!r} to have weights that fit {held} bytes, got a config of {wanted}.")
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, dtype in types.items():
        if name in parameters and not dtype.is_floating_point:
            raise ValueError(
                f"Expected float weights in {part.name!r}, got {name!r} of {dtype}. Start from the float model."
            )
    stacks = {path: len(module) for path, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    for name in shapes:
        words = name.split(".")
        for place, word in enumerate(words):
            if word.isdecimal() and int(word) >= stacks.get(".".join(words[:place]), int(word) + 1):
                raise ValueError(
                    f"Expected the blocks of {part.name!r} that its config says, got {name!r} beyond them. The folder "
                    "is put together of two models, or its config is damaged."
                )


def weight_files(part: Path) -> list[Path]:
    """The safetensors files of a component; an index may name files beside it only.

    Raises:
        ValueError: if it names others, or one is damaged.
    """
    for index in part.glob("*.index*.json"):
        content = read_strict_json(index)
        names = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(names, dict) or not all(
            isinstance(name, str) and name == os.path.basename(name) for name in names.values()
        ):
            raise ValueError(f"Expected {index.name!r} to name files beside it, got others. Copy the folder again.")
    return sorted(part.glob("*.safetensors"))


def _require_numbers(part: Path, config: Mapping[str, Any]) -> None:
    """Refuse text where the class of a config has a number for its default."""
    kind: Any = getattr(diffusers, str(config.get("_class_name")), None)
    known = inspect.signature(kind).parameters if isinstance(kind, type) else {}
    for name, parameter in known.items():
        number = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
        if number and isinstance(config.get(name), str):
            raise ValueError(f"Expected {name} of {part.name!r} to be a number, got {short(config[name])}.")


def _count_tensors(part: Path) -> int:
    """How many tensors the files hold, at most."""
    count = sum(_count_pickled(path) for path in part.glob("*.bin"))
    for place, path in enumerate(weight_files(part)):
        try:
            with safe_open(path, framework="pt") as file:
                count += len(file.keys())
                aliases = json.loads((file.metadata() or {}).get("ptq4dit", "{}")).get("aliases", {})
        except (SafetensorError, OSError, ValueError, AttributeError) as error:
            raise ValueError(f"Expected a whole safetensors file, got {path.name!r}: {short(str(error))}") from error
        count += len(aliases) if place == 0 else 0
    return count


def _count_pickled(path: Path) -> int:
    if not zipfile.is_zipfile(path):
        return path.stat().st_size // _SMALLEST
    with zipfile.ZipFile(path) as file:
        return len(file.infolist())


def _integers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _integers(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _integers(inner, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value
