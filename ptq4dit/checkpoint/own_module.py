"""Quantized transformers that are no diffusers models, kept in a folder: what they are made of, and not their code.

The folder has what diffusers writes of a model of its own, ``config.json`` and the packed tensors, and the manifest.
Whoever reads it brings the float module that the code makes, untrained: its layers are replaced, its weights filled in.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from ptq4dit.checkpoint.file_facts import facts_of, read_files, to_metadata
from ptq4dit.checkpoint.manifest import MODULE_FORMAT, WEIGHTS, made_by, write_manifest
from ptq4dit.checkpoint.packed_state import pack, packed_names, unpack
from ptq4dit.checkpoint.pipeline_folder import record_in
from ptq4dit.checkpoint.rebuild import complete, rebuild
from ptq4dit.config.diffusers import DiffusersConfig
from ptq4dit.config.record import QuantRecord
from ptq4dit.model.folder_sizes import CONFIG
from ptq4dit.storage.tensors import sort_text


def write_module(module: nn.Module, record: QuantRecord, folder: Path) -> None:
    """Write a quantized module into an empty folder."""
    module = getattr(module, "twin", module)  # of one on an integer backend the simulated one
    stored, aliases = pack(module.state_dict(), packed_names(record))
    save_file(stored, folder / WEIGHTS, {"format": "pt", **to_metadata(facts_of(module), aliases)})
    sort_text(folder / WEIGHTS)
    content = {"_class_name": type(module).__name__, "quantization_config": DiffusersConfig(stored=record).to_dict()}
    (folder / CONFIG).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_manifest(folder, made_by(record, type(module).__name__), MODULE_FORMAT)


def read_module(folder: Path, manifest: dict[str, Any], into: nn.Module | None) -> nn.Module:
    """Make a float module the quantized one of a folder, in place; it comes back.

    Args:
        folder: what `write_module` wrote.
        manifest: its manifest, checked.
        into: a module of the same architecture, whatever its weights are.

    Raises:
        ValueError: if there is none, or it is of another architecture.
    """
    if into is None:
        raise ValueError(
            f"Expected into=..., a float {manifest['source']} for the weights in {str(folder)!r}, got none: the code "
            "of a module that is not diffusers' is not in the folder."
        )
    record, files = record_in(folder), read_files([folder / WEIGHTS])
    rebuild(into, record, files)
    expected, packed = into.state_dict(keep_vars=True), packed_names(record)
    into.load_state_dict(unpack(load_file(folder / WEIGHTS), files.facts.aliases, expected, packed), assign=True)
    complete(into, record)
    return into.eval()
