"""A diffusers pipeline folder, written without a word about this machine, and read with nothing taken on trust."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch

from ptq4dit.checkpoint.file_facts import as_floating, read_files
from ptq4dit.checkpoint.rebuild import rebuild
from ptq4dit.config.diffusers import DiffusersConfig
from ptq4dit.config.record import QuantRecord, short
from ptq4dit.model.folder_sizes import CONFIG, INDEX, rehearsed, require_sizes, weight_files
from ptq4dit.model.loading import loading
from ptq4dit.model.pipelines import absent_parts
from ptq4dit.storage.strict_json import read_strict_json
from ptq4dit.storage.tensors import sort_text

_NAMES = {"_name_or_path", "name_or_path"}


def write_pipeline(pipeline: Any, folder: Path, max_shard_size: int | str | None = None) -> None:
    """Write all components as diffusers does, without paths of this machine; the same ones give the same bytes."""
    pipeline.save_pretrained(folder, max_shard_size=max_shard_size)
    for path in [folder / INDEX, *folder.glob("*/*config.json")]:
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(_portable(content), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in folder.glob("*/*.safetensors"):
        sort_text(path)


def read_pipeline(folder: Path, dtypes: Mapping[str, str]) -> Any:
    """The pipeline of a folder; sizes that its configs claim are believed as far as there are bytes for them.

    Args:
        folder: what `write_pipeline` wrote.
        dtypes: floating type of every model in it, by component; the quantized transformer keeps its own.

    Raises:
        ValueError: if something in it does not fit, or is not diffusers' own.
    """
    index = read_strict_json(folder / INDEX)
    name = index.get("_class_name") if isinstance(index, dict) else None
    kind: Any = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise ValueError(f"Expected the name of a diffusers pipeline in {INDEX}, got {short(name)}. Quantize again.")
    for part in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        require_sizes(part)
    _rehearse(folder / "transformer")
    types: dict[str, torch.dtype | None] = {part: as_floating(dtype) for part, dtype in dtypes.items()}
    given = {"dtype": {**types, "transformer": None}, **absent_parts(index)}
    made: Any = kind
    with loading():
        return made.from_pretrained(folder, local_files_only=True, **given)


def stored_record(folder: Path) -> QuantRecord:
    """What made the transformer of a pipeline folder. Raises ValueError if its config does not say."""
    return record_in(folder / "transformer")


def record_in(folder: Path) -> QuantRecord:
    """What made the quantized model of a folder.

    Raises:
        ValueError: if its config does not say.
    """
    config = read_strict_json(folder / CONFIG)
    said = config.get("quantization_config") if isinstance(config, dict) else None
    if not isinstance(said, dict) or said.get("quant_method") != DiffusersConfig.quant_method:
        raise ValueError(f"Expected the quantization_config of a quantized transformer, got {short(said)}.")
    stored = DiffusersConfig.from_dict(said).stored
    if stored is None:
        raise ValueError("Expected a quantized transformer, got a config that only asks for one. Quantize again.")
    return stored


def component_dtypes(pipeline: Any) -> dict[str, str]:
    """The floating type of every model of a pipeline, by component."""
    return {
        name: str(part.dtype).removeprefix("torch.")
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module) and name != "transformer"
    }


def _rehearse(part: Path) -> None:
    """Build the transformer without memory and compare it with its files, before diffusers builds it in earnest."""
    transformer, record = rehearsed(part), stored_record(part.parent)
    files = read_files(weight_files(part))
    if transformer is not None:  # else it is compared as diffusers builds it
        rebuild(transformer, record, files)


def _portable(content: Any) -> Any:
    """The same JSON without names of folders on this machine."""
    if isinstance(content, dict):
        return {key: _portable(value) for key, value in content.items() if key not in _NAMES and not _is_local(value)}
    return [_portable(value) for value in content] if isinstance(content, list) else content


def _is_local(value: Any) -> bool:
    return isinstance(value, str) and os.path.isabs(value) and len(value) > 1 and os.path.exists(value)
