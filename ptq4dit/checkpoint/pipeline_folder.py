"""A diffusers pipeline folder, written without a word about this machine, and read with nothing taken on trust."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import SafetensorError, safe_open

from ptq4dit.checkpoint.file_facts import as_floating, read_files
from ptq4dit.checkpoint.manifest import read_strict_json
from ptq4dit.checkpoint.rebuild import rebuild
from ptq4dit.config.diffusers import DiffusersConfig
from ptq4dit.config.record import QuantRecord, short

_INDEX, _CONFIG = "model_index.json", "config.json"
_NAMES = {"_name_or_path", "name_or_path"}
_REPEATED = ("layers", "blocks", "depth")
_LARGEST, _LONGEST_SCHEDULE = 10_000_000, 100_000
_SPARE = 2**28
"""Bytes that tables which are no tensors of the files may take, whatever the size of the files."""


def write_pipeline(pipeline: Any, folder: Path, max_shard_size: int | str | None = None) -> None:
    """Write all components as diffusers does, then take paths of this machine out of the configs."""
    pipeline.save_pretrained(folder, max_shard_size=max_shard_size)
    for path in [folder / _INDEX, *folder.glob("*/*config.json")]:
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(_portable(content), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_pipeline(folder: Path, dtypes: Mapping[str, str]) -> Any:
    """The pipeline of a folder; sizes that its configs claim are believed as far as there are bytes for them.

    Args:
        folder: what `write_pipeline` wrote.
        dtypes: floating type of every model in it, by component; the quantized transformer keeps its own.

    Raises:
        ValueError: if something in it does not fit, or is not diffusers' own.
    """
    index = read_strict_json(folder / _INDEX)
    name = index.get("_class_name") if isinstance(index, dict) else None
    kind: Any = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise ValueError(f"Expected the name of a diffusers pipeline in {_INDEX}, got {short(name)}. Quantize again.")
    for part in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        require_sizes(part)
    _rehearse(folder / "transformer")
    types: dict[str, torch.dtype | None] = {part: as_floating(dtype) for part, dtype in dtypes.items()}
    made: Any = kind
    return made.from_pretrained(folder, dtype={**types, "transformer": None}, local_files_only=True)


def stored_record(folder: Path) -> QuantRecord:
    """What made the transformer of a pipeline folder.

    Raises:
        ValueError: if its config does not say.
    """
    config = read_strict_json(folder / "transformer" / _CONFIG)
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


def portable_source(source: str) -> str:
    """Where a model came from, without the folders of this machine: relative to the present one, or its bare name."""
    path = Path(source)
    if not path.is_absolute():
        return source
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def weight_files(part: Path) -> list[Path]:
    """The safetensors files of a component; an index may name files beside it only.

    Raises:
        ValueError: if it names others, or one is damaged.
    """
    for index in part.glob("*.index.json"):
        content = read_strict_json(index)
        names = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(names, dict) or not all(
            isinstance(name, str) and name == os.path.basename(name) and (part / name).is_file()
            for name in names.values()
        ):
            raise ValueError(f"Expected {index.name!r} to name files beside it, got others. Copy the folder again.")
    return sorted(part.glob("*.safetensors"))


def _rehearse(part: Path) -> None:
    """Build the transformer without memory and compare it with its files, before diffusers builds it in earnest."""
    config = read_strict_json(part / _CONFIG)
    kind: Any = getattr(diffusers, str(config.get("_class_name")), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.ModelMixin)):
        raise ValueError(f"Expected the name of a diffusers model, got {short(config.get('_class_name'))}.")
    record, paths = stored_record(part.parent), weight_files(part)
    files = read_files(paths)
    made: Any = kind
    try:
        with torch.device("meta"):
            transformer = made.from_config({k: v for k, v in config.items() if k != "quantization_config"})
    except NotImplementedError:  # a class that cannot be built without memory is compared as diffusers builds it
        return
    tables = sum(buffer.numel() * buffer.element_size() for buffer in transformer.buffers())
    held = sum(path.stat().st_size for path in paths)
    if tables > _SPARE + 16 * held:
        raise ValueError(f"Expected tables that fit {held} bytes of weights, got {tables} bytes. It is not ours.")
    rebuild(transformer, record, files)


def require_sizes(part: Path, aliases: int = 0) -> None:
    """Refuse configs of a component that would have a model built that the files beside them cannot fill.

    Args:
        part: the component's folder.
        aliases: tensors that are copies of stored ones, where the files do not say so themselves.

    Raises:
        ValueError: if a number in them is beyond what the files have room for.
    """
    tensors = _count_tensors(part) + aliases
    for path in part.glob("*config.json"):
        content = read_strict_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"Expected an object in {path.name!r} of {part.name!r}, got {short(content)}.")
        if path.name not in (_CONFIG, "scheduler_config.json"):
            continue
        limit = _LARGEST if path.name == _CONFIG else _LONGEST_SCHEDULE
        content = {name: value for name, value in content.items() if name != "quantization_config"}
        for name, value in _integers(content):
            most = tensors if tensors and any(word in name for word in _REPEATED) else limit
            if abs(value) > most:
                raise ValueError(
                    f"Expected {name} of {part.name!r} to fit its files, got {value} where they have room for {most}."
                )


def _count_tensors(part: Path) -> int:
    count = 0
    for path in weight_files(part):
        try:
            with safe_open(path, framework="pt") as file:
                count += len(file.keys())
                aliases = json.loads((file.metadata() or {}).get("ptq4dit", "{}")).get("aliases", {})
        except (SafetensorError, OSError, ValueError, AttributeError) as error:
            raise ValueError(f"Expected a whole safetensors file, got {path.name!r}: {short(str(error))}") from error
        count += len(aliases) if path == weight_files(part)[0] else 0
    return count


def _integers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _integers(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _integers(inner, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value


def _portable(content: Any) -> Any:
    """The same JSON without names of folders on this machine."""
    if isinstance(content, dict):
        return {key: _portable(value) for key, value in content.items() if key not in _NAMES and not _is_local(value)}
    return [_portable(value) for value in content] if isinstance(content, list) else content


def _is_local(value: Any) -> bool:
    return isinstance(value, str) and os.path.isabs(value) and len(value) > 1 and os.path.exists(value)
