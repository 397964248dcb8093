"""Read checkpoints of the former format: a DiT in a layout of its own, VAE and scheduler as diffusers writes them."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, SchedulerMixin
from safetensors.torch import load_file

from ptq4dit.checkpoint.file_facts import Facts, Files, as_floating
from ptq4dit.checkpoint.packed_state import packed_names, unpack
from ptq4dit.checkpoint.quantizer import as_diffusers
from ptq4dit.checkpoint.rebuild import complete, rebuild
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.record import QuantRecord, made, numbers, short, stored_settings
from ptq4dit.model.folder_sizes import require_sizes
from ptq4dit.model.loading import empty_here, loading
from ptq4dit.quantized.convert import quantized_layers, settings_of
from ptq4dit.storage.strict_json import read_strict_json
from ptq4dit.storage.untrusted import read_headers

_WEIGHTS = "quantized.safetensors"
_SMALL = {"num_attention_heads": 1, "attention_head_dim": 8, "num_embeds_ada_norm": 1, "sample_size": 8}
_POSITIONS = "pos_embed.pos_embed"


def read_former(folder: Path, manifest: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Transformer, VAE and scheduler of a checkpoint whose manifest is checked already.

    Raises:
        ValueError: if something in it does not fit.
    """
    for part in ("transformer", "vae", "scheduler"):
        require_sizes(folder / part, aliases=len(manifest["aliases"]))
    scheduler: Any = getattr(diffusers, manifest["scheduler"], None)
    if not (isinstance(scheduler, type) and issubclass(scheduler, SchedulerMixin)):
        name = short(manifest["scheduler"])
        raise ValueError(f"Expected the name of a diffusers scheduler in the manifest, got {name}. Quantize again.")
    dtype = as_floating(manifest["dtype"])
    transformer = _transformer(folder / "transformer", manifest, dtype)
    with loading():
        vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype).eval()
    found: Any = scheduler
    return transformer, vae, found.from_pretrained(folder / "scheduler")


def _transformer(part: Path, manifest: dict[str, Any], dtype: torch.dtype) -> Any:
    architecture = read_strict_json(part / "config.json")
    with torch.device("meta"):
        rehearsal = DiTTransformer2DModel.from_config(architecture)
    record, files = _record(architecture, manifest), _files(part / _WEIGHTS, manifest, dtype)
    rebuild(rehearsal, record, files)
    with empty_here():
        transformer: Any = DiTTransformer2DModel.from_config(architecture)
    rebuild(transformer, record, files)
    expected = transformer.state_dict(keep_vars=True)
    state = unpack(load_file(part / _WEIGHTS), files.facts.aliases, expected, packed_names(record))
    transformer.load_state_dict({name: state[name].to(expected[name].dtype) for name in expected}, assign=True)
    complete(transformer, record)
    as_diffusers(transformer, record)
    return transformer.eval()


def _record(architecture: dict[str, Any], manifest: dict[str, Any]) -> QuantRecord:
    """Paths were not stored: they are those of any DiT of so many blocks."""
    config = made(QuantConfig, manifest["config"], "config")
    layers = quantized_layers(DiTTransformer2DModel.from_config(architecture | _SMALL), config)
    settings = settings_of(layers, config)
    if stored_settings(manifest["layers"]) != settings:
        raise ValueError("Expected the layers that the config of the checkpoint says, got others. Quantize again.")
    return QuantRecord(
        config=config,
        calibration=made(CalibrationConfig, manifest["calibration"], "calibration"),
        statistics=numbers(manifest["statistics"]),
        model=manifest["model"],
        layers={name: layer.paths for name, layer in layers.items()},
        settings=settings,
    )


def _files(path: Path, manifest: dict[str, Any], dtype: torch.dtype) -> Files:
    """Types of buffers that are not saved were not stored: the position table is float32, as diffusers makes it."""
    types, shapes, _ = read_headers([path])
    facts = Facts(
        dtype=dtype,
        buffers={_POSITIONS: torch.float32},
        frequencies=manifest["frequencies"],
        aliases=manifest["aliases"],
    )
    return Files(facts=facts, types=types, shapes=shapes).checked()
