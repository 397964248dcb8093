"""Save a quantized model as a diffusers pipeline folder and load it again, bit for bit, without the float model.

A checkpoint is what diffusers writes (``model_index.json``, a folder for each component, the transformer's integers
packed), ``manifest.json`` beside it (what made it, a checksum of every file), and for PTQD its noise correction.
"""

import copy
import dataclasses
import os
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path
from typing import Any, overload

import torch
from diffusers import DiffusionPipeline, DiTPipeline, ModelMixin
from torch import nn

from ptq4dit.backends.dispatch import with_backend
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.checkpoint.former import read_former
from ptq4dit.checkpoint.manifest import FORMER_FORMAT, KIND, MODULE_FORMAT, made_by, read_manifest, write_manifest
from ptq4dit.checkpoint.own_module import read_module, write_module
from ptq4dit.checkpoint.packed_state import pack, packed_names
from ptq4dit.checkpoint.pipeline_folder import (
    component_dtypes,
    read_pipeline,
    record_in,
    stored_record,
    write_pipeline,
)
from ptq4dit.checkpoint.quantizer import as_diffusers, integers_only
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.record import QuantRecord, made, numbers, short, stored_settings
from ptq4dit.model.bundle import Dit, bundle, load
from ptq4dit.model.stock_pipeline import PTQ4DiTPipeline
from ptq4dit.sampling.noise_correction import NoiseCorrection
from ptq4dit.storage.folder import recover, require_writable, whole_folder
from ptq4dit.storage.provenance import portable_source
from ptq4dit.storage.tensors import read_tensors, write_tensors

_CORRECTION, _CORRECTION_FORMAT = "noise_correction.safetensors", "ptq4dit-noise-correction-1"


def save_quantized(
    model: Dit | DiffusionPipeline | nn.Module,
    folder: str | os.PathLike[str],
    *,
    max_shard_size: int | str | None = None,
) -> None:
    """Write a quantized model as a folder that diffusers loads after ``import ptq4dit``; a module of one's own, as one
    that `load_quantized` fills in.

    Weights of up to 4 bits take half a byte each, others one byte. Tensors that occur more than once (diffusers' DiT
    has a copy of the embedders in every block) are stored once. The folder appears whole or not at all.

    Args:
        model: what `ptq4dit.quantize` returned, a pipeline with a quantized transformer, or a quantized module that is
            no diffusers model (one that is has ``save_pretrained``).
        folder: a new folder, or an older checkpoint to replace; may be a link, a mount, or ``"."``.
        max_shard_size: of the transformer's files, such as ``"5GB"``; None for diffusers' default.

    Raises:
        ValueError: if the model is not quantized, the folder holds something else or cannot be written, or the disk
            is full.
    """
    if isinstance(model, ModelMixin):
        name = type(model).__name__
        raise ValueError(
            f"Expected a pipeline, or what ptq4dit.load made, got a bare {name}. Write it with its own "
            f"save_pretrained(folder), read it with {name}.from_pretrained(folder)."
        )
    record = getattr(model if isinstance(model, nn.Module) else model.transformer, "ptq4dit_record", None)
    if not isinstance(record, QuantRecord):
        raise ValueError("Expected a quantized model, got a float one. Use ptq4dit.quantize(...) first.")
    target = Path(folder)
    require_writable(target, KIND)
    with whole_folder(target) as new:
        if isinstance(model, nn.Module):
            write_module(model, record, new)
        else:
            _write(model, record, new, max_shard_size)


@overload
def load_quantized(
    folder: str | os.PathLike[str],
    device: str | torch.device = ...,
    backend: str | None = ...,
    options: IntegerOptions | None = ...,
) -> Dit: ...


@overload
def load_quantized(
    folder: str | os.PathLike[str],
    device: str | torch.device = ...,
    backend: str | None = ...,
    options: IntegerOptions | None = ...,
    *,
    into: nn.Module,
) -> nn.Module: ...


def load_quantized(
    folder: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    backend: str | None = None,
    options: IntegerOptions | None = None,
    *,
    into: nn.Module | None = None,
) -> Any:
    """Read what `save_quantized` wrote, now or in the former format. The result computes the same bits.

    For the integer backend of CPUs no float weight is made, and integers stay in the files, which are mapped.

    Args:
        folder: the checkpoint.
        device: where to put the models.
        backend: what is to run the model; None for the one that it was saved with.
        options: of the integer backend.
        into: for a transformer that is no diffusers model, the float module that its code makes, whatever its weights
            are: it becomes the quantized one.

    Returns:
        A bundle as `ptq4dit.load` makes them; with ``into`` the module.

    Raises:
        ValueError: if the folder is no checkpoint, is damaged, lacks or adds a tensor, or the backend cannot run it.
    """
    source = Path(folder)
    recover(source)
    manifest = read_manifest(source)
    chosen = backend or manifest["config"].get("backend")
    lean = chosen == "integer" and torch.device(device).type == "cpu"
    try:
        with integers_only() if lean else nullcontext():
            model = _read_any(source, manifest, into)
    except Exception as error:  # diffusers, safetensors and torch each have errors of their own for damaged files
        if isinstance(error, ValueError) and str(error).startswith("Expected"):
            raise
        said = short(" ".join(str(error).split()) or type(error).__name__)
        raise ValueError(
            f"Expected a whole checkpoint in {str(source)!r}, got one that cannot be read: {said}"
        ) from error
    model = model.to(device)
    return model if chosen == "simulated" == manifest["config"].get("backend") else with_backend(model, chosen, options)


def packed_bytes(model: Dit) -> int:
    """Bytes of the transformer's tensors on disk.

    Of a quantized one as `save_quantized` stores them, packed and repeated ones once; of a float one as diffusers does,
    with a copy of the embedders in every block of a DiT.
    """
    stored, record = model.torch_transformer.state_dict(), getattr(model.transformer, "ptq4dit_record", None)
    if record is not None:
        stored, _ = pack(stored, packed_names(record))
    return sum(tensor.numel() * tensor.element_size() for tensor in stored.values())


def _write(model: Any, record: QuantRecord, folder: Path, max_shard_size: int | str | None) -> None:
    pipeline = _pipeline_of(model)
    vars(pipeline)["transformer"] = _dressed(pipeline.transformer, record)
    write_pipeline(pipeline, folder, max_shard_size)
    correction = getattr(model, "noise_correction", None)
    if correction is not None:
        write_tensors(folder / _CORRECTION, correction.tensors(), {}, _CORRECTION_FORMAT)
    manifest = made_by(record, portable_source(getattr(model, "source", type(pipeline).__name__))) | {
        "pipeline": type(pipeline).__name__,
        "dtypes": component_dtypes(pipeline),
        "id2label": dict(getattr(model, "id2label", {})),
        "options": {name: value for name, value in getattr(model, "options", {}).items() if _is_plain(value)},
    }
    write_manifest(folder, manifest)


def _pipeline_of(model: Any) -> Any:
    """A pipeline of its own around the parts of a model; the given one is left as it is."""
    if type(model) is DiTPipeline:
        names: dict[str, str] = {}
        for name, number in model.labels.items():
            names[str(number)] = f"{names[str(number)]}, {name}" if str(number) in names else name
        return PTQ4DiTPipeline(model.transformer, model.vae, model.scheduler, id2label=names)
    if isinstance(model, DiffusionPipeline):
        return copy.copy(model)
    pipeline = model.pipeline
    if model.text_conditioned:
        return pipeline
    labels = {str(number): name for number, name in model.id2label.items()}
    return PTQ4DiTPipeline(model.torch_transformer, pipeline.vae, pipeline.scheduler, id2label=labels)


def _dressed(transformer: Any, record: QuantRecord) -> Any:
    """The same transformer, sharing all tensors, that diffusers knows to be quantized as the record says."""
    own = copy.copy(getattr(transformer, "twin", transformer))
    vars(own)["_state_dict_hooks"] = OrderedDict(own._state_dict_hooks)
    vars(own)["_forward_pre_hooks"] = OrderedDict(own._forward_pre_hooks)
    as_diffusers(own, record)
    return own


def _read_any(source: Path, manifest: dict[str, Any], into: nn.Module | None) -> Any:
    """What is in a folder, by the format that its manifest says."""
    if manifest["format"] == MODULE_FORMAT:
        _require_agreement(manifest, record_in(source))
        return read_module(source, manifest, into)
    if into is not None:
        raise ValueError(f"Expected no into=... for the pipeline in {str(source)!r}, got a {type(into).__name__}.")
    return _read_former(source, manifest) if manifest["format"] == FORMER_FORMAT else _read(source, manifest)


def _read(source: Path, manifest: dict[str, Any]) -> Dit:
    _require_agreement(manifest, stored_record(source))
    pipeline = read_pipeline(source, manifest["dtypes"])
    if isinstance(pipeline, DiTPipeline):
        parts = (pipeline.transformer, pipeline.vae, pipeline.scheduler)
        model = bundle(*parts, manifest["id2label"], source=manifest["source"])
    else:
        model = dataclasses.replace(load(pipeline, options=manifest["options"]), source=manifest["source"])
    return _corrected(model, source, manifest)


def _require_agreement(manifest: dict[str, Any], record: QuantRecord) -> None:
    """What is said twice, in the manifest and in the transformer's config, is the same."""
    said = {
        "config": (made(QuantConfig, manifest["config"], "config"), record.config),
        "calibration": (made(CalibrationConfig, manifest["calibration"], "calibration"), record.calibration),
        "statistics": (numbers(manifest["statistics"]), dict(record.statistics)),
        "model": (manifest["model"], record.model),
    }
    if wrong := [name for name, (here, there) in said.items() if here != there]:
        raise ValueError(f"Expected {wrong[0]} in the manifest as the transformer's files have it. Copy it again.")
    if stored_settings(manifest["layers"]) != dict(record.settings):
        raise ValueError("Expected the layers that the config of the transformer says, got others. Quantize again.")


def _read_former(source: Path, manifest: dict[str, Any]) -> Dit:
    model = bundle(*read_former(source, manifest), manifest["id2label"], source=manifest["source"])
    return _corrected(model, source, manifest)


def _corrected(model: Dit, source: Path, manifest: dict[str, Any]) -> Dit:
    if _CORRECTION not in manifest["sha256"]:
        return model
    tensors, _ = read_tensors(source / _CORRECTION, _CORRECTION_FORMAT, "noise correction")
    return dataclasses.replace(model, noise_correction=NoiseCorrection.from_tensors(tensors))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
