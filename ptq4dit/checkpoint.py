"""Save a quantized DiT as packed integers and load it again, bit for bit, without the float model.

A checkpoint is a folder: ``manifest.json`` (format, what made it, what is in it), ``transformer/`` (config and one
safetensors file), ``vae/`` and ``scheduler/`` as diffusers writes them.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, SchedulerMixin
from safetensors.torch import load_file, save_file
from torch import Tensor

from ptq4dit.backends.dispatch import with_backend
from ptq4dit.config import CalibrationConfig, QuantConfig
from ptq4dit.dit import Dit, bundle
from ptq4dit.frequencies import set_frequencies
from ptq4dit.manifest import FORMAT, KIND, layer_specs, read_manifest, stored_specs, write_manifest
from ptq4dit.noise_correction import NoiseCorrection
from ptq4dit.packing import pack_int4, unpack_int4
from ptq4dit.quantized.convert import install, make_clock, quantized_layers, unfilled
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.quantized.record import QuantRecord
from ptq4dit.tensorfile import read_tensors, write_tensors
from ptq4dit.whole_folder import require_replaceable, whole_folder

_WEIGHTS, _CONFIG = "transformer/quantized.safetensors", "transformer/config.json"
_CORRECTION, _CORRECTION_FORMAT = "noise_correction.safetensors", "ptq4dit-noise-correction-1"
_INTEGERS, _ZERO_POINTS = ".weight_q", "zero_point"


def save_quantized(model: Dit, folder: str | os.PathLike[str]) -> None:
    """Write a quantized bundle.

    Weights of up to 4 bits take half a byte each, others one byte. Tensors that occur more than once (diffusers' DiT
    has a copy of the embedders in every block) are stored once. The folder appears whole or not at all.

    Args:
        model: what `ptq4dit.quantize` returned.
        folder: a new folder, or an older checkpoint to replace.

    Raises:
        ValueError: if the model is not quantized, or the folder holds something else.
    """
    record = getattr(model.transformer, "ptq4dit_record", None)
    if not isinstance(record, QuantRecord):
        raise ValueError("Expected a quantized model, got a float one. Use ptq4dit.quantize(...) first.")
    target = Path(folder)
    require_replaceable(target, KIND)
    with whole_folder(target) as new:
        _write(model, record, new)


def load_quantized(
    folder: str | os.PathLike[str], device: str | torch.device = "cpu", backend: str | None = None
) -> Dit:
    """Read what `save_quantized` wrote. The result computes the same bits on the same machine.

    Args:
        folder: the checkpoint.
        device: where to put the transformer and the VAE.
        backend: what is to run the model; None for the one that it was saved with.

    Raises:
        ValueError: if the folder is no checkpoint, is damaged, lacks or adds a tensor, or the backend cannot run it.
    """
    source = Path(folder)
    manifest = read_manifest(source)
    model = _read(source, manifest, device)
    chosen = backend or manifest["config"]["backend"]
    return model if chosen == "simulated" == manifest["config"]["backend"] else with_backend(model, chosen)


def _read(source: Path, manifest: dict[str, Any], device: str | torch.device) -> Dit:
    config, dtype = QuantConfig.from_json(json.dumps(manifest["config"])), _dtype(manifest["dtype"])
    transformer, layers = _empty_transformer(json.loads((source / _CONFIG).read_text(encoding="utf-8")), config, dtype)
    if layer_specs(layers, config) != stored_specs(manifest):
        raise ValueError(f"Expected the layers that the config of {str(source)!r} says, got others. Quantize again.")
    _load_state(transformer, _unpacked(load_file(source / _WEIGHTS), manifest), source)
    transformer.ptq4dit_record = QuantRecord(
        config=config,
        calibration=CalibrationConfig.from_json(json.dumps(manifest["calibration"])),
        statistics=manifest["statistics"],
        model=manifest["model"],
        layers=tuple(layers),
    )
    set_frequencies(transformer, manifest["frequencies"])
    vae = AutoencoderKL.from_pretrained(source / "vae", dtype=dtype).to(device).eval()
    scheduler = _scheduler_class(manifest["scheduler"]).from_pretrained(source / "scheduler")
    model = bundle(transformer.to(device).eval(), vae, scheduler, manifest["id2label"], source=manifest["source"])
    if _CORRECTION not in manifest["sha256"]:
        return model
    tensors, _ = read_tensors(source / _CORRECTION, _CORRECTION_FORMAT, "noise correction")
    return dataclasses.replace(model, noise_correction=NoiseCorrection.from_tensors(tensors))


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"Expected the name of a torch dtype in the manifest, got {name!r}. Quantize again.")
    return found


def _scheduler_class(name: str) -> Any:
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise ValueError(f"Expected the name of a diffusers scheduler in the manifest, got {name!r}. Quantize again.")
    return found


def packed_bytes(model: Dit) -> int:
    """Bytes of the transformer's tensors as `save_quantized` stores them: packed, repeated ones once."""
    transformer = model.torch_transformer
    stored, _ = _packed(transformer.state_dict(), _packed_columns(transformer))
    return sum(tensor.numel() * tensor.element_size() for tensor in stored.values())


def _write(model: Dit, record: QuantRecord, folder: Path) -> None:
    (folder / "transformer").mkdir()
    model.vae.save_pretrained(folder / "vae")
    model.scheduler.save_pretrained(folder / "scheduler")
    (folder / _CONFIG).write_text(json.dumps(dict(model.config), indent=2, default=str) + "\n", encoding="utf-8")
    halves = _packed_columns(model.torch_transformer)
    if model.noise_correction is not None:
        write_tensors(folder / _CORRECTION, model.noise_correction.tensors(), {}, _CORRECTION_FORMAT)
    stored, aliases = _packed(model.torch_transformer.state_dict(), halves)
    save_file(stored, folder / _WEIGHTS, {"format": FORMAT})
    manifest = {
        "label": record.config.label,
        "method": record.config.method,
        "config": json.loads(record.config.to_json()),
        "calibration": json.loads(record.calibration.to_json()),
        "statistics": dict(record.statistics),
        "model": record.model,
        "source": model.source,
        "frequencies": model.frequencies,
        "dtype": str(model.dtype).removeprefix("torch."),
        "scheduler": type(model.scheduler).__name__,
        "id2label": dict(model.id2label),
        "layers": layer_specs(record.layers, record.config),
        "columns": halves,
        "aliases": aliases,
    }
    write_manifest(folder, manifest)


def _packed(state: dict[str, Tensor], halves: dict[str, int]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors to store, and for each repeated one the name of its first occurrence."""
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[str, torch.Size, bytes], str] = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu().contiguous()
        value = pack_int4(value) if name in halves else value
        value = value.to(torch.uint8) if name.endswith(_ZERO_POINTS) else value
        raw = value.view(torch.uint8) if value.ndim else value.reshape(1).view(torch.uint8)
        key = (str(value.dtype), value.shape, hashlib.blake2b(raw.numpy().data).digest())
        if key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            stored[name] = value.clone() if value.data_ptr() == tensor.data_ptr() else value
    return stored, aliases


def _unpacked(stored: dict[str, Tensor], manifest: dict[str, Any]) -> dict[str, Tensor]:
    """What was packed, each stored tensor unpacked once and shared by its copies."""
    columns = manifest["columns"]
    ready = {
        name: unpack_int4(tensor, columns[name])
        if name in columns
        else tensor.to(torch.int32)
        if name.endswith(_ZERO_POINTS)
        else tensor
        for name, tensor in stored.items()
    }
    return ready | {name: ready[original] for name, original in manifest["aliases"].items()}


def _packed_columns(transformer: torch.nn.Module) -> dict[str, int]:
    """Names of the integers that need four bits at most, and how many columns they have."""
    return {
        f"{name}{_INTEGERS}": module.in_features
        for name, module in transformer.named_modules()
        if isinstance(module, QuantizedLinear) and module.config.weight_bits <= 4
    }


def _empty_transformer(architecture: dict[str, Any], config: QuantConfig, dtype: torch.dtype) -> tuple[Any, list[str]]:
    """A transformer to load a state into, and the names of its quantized layers."""
    transformer = torch.nn.Module.to(DiTTransformer2DModel.from_config(architecture), dtype)
    clock, layers = make_clock(config), list(quantized_layers(transformer, config))
    install(transformer, config, lambda _, linear, layer: unfilled(linear, layer, clock), clock)
    return transformer, layers


def _load_state(transformer: Any, state: dict[str, Tensor], source: Path) -> None:
    try:
        transformer.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"Expected exactly the tensors of this model in {str(source)!r}: {error}") from error
