"""Write a quantized DiT for those who deploy elsewhere: one graph, conditioning included, and a manifest."""

import dataclasses
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptq4dit.backends.dit_layers import block_linears, require_plain_attention, require_published
from ptq4dit.model.bundle import Dit
from ptq4dit.quantized.convert import describe
from ptq4dit.storage.folder import MANIFEST, require_writable, whole_folder
from ptq4dit.storage.provenance import portable_source

TARGETS = ("openvino", "onnx")
KIND = "ptq4dit-export"
FORMAT = f"{KIND}-1"
_MODULES = {"openvino": "openvino", "onnx": "onnx"}


def export(model: Dit, target: str, folder: str | os.PathLike[str], *, pack_4_bits: bool = False) -> Path:
    """Write a folder with the model's graph and ``manifest.json``; it appears whole or not at all.

    Inputs ``latents`` ``(n, channels, height, width)`` float32, ``timestep`` ``(n,)`` and ``class_labels`` ``(n,)``
    int64, n free; output ``sample``. Scales, zero points and integers are the model's own; what is not quantized is
    in float32.

    Args:
        model: a quantized bundle, whichever backend runs it.
        target: ``"openvino"`` (``model.xml`` and ``model.bin``, to be compiled with what ``compile_with`` in the
            manifest says) or ``"onnx"`` (``model.onnx``, QDQ form).
        folder: a new folder, or an older export to replace.
        pack_4_bits: ONNX only: weights of up to 4 bits as UINT4, half the bytes; most runtimes then multiply in
            float. By default they are int8 multiples of their scale, which int8 kernels take.

    Returns:
        The folder.

    Raises:
        ValueError: if the model is float, a layer cannot be expressed (the message names it), a package is missing,
            or the folder holds something else.
    """
    destination = Path(folder)
    _require(model, target, destination, pack_4_bits)
    twin = model.torch_transformer
    write = _writer(target, pack_4_bits, int(model.scheduler.config.get("num_train_timesteps", 1000)))
    with whole_folder(destination) as new:
        extra = write(twin, new)
        (new / MANIFEST).write_text(
            json.dumps(_manifest(model, target, new) | extra, indent=2) + "\n", encoding="utf-8"
        )
    return destination


def _writer(target: str, pack_4_bits: bool, timesteps: int) -> Callable[[Any, Path], dict[str, Any]]:
    if target == "onnx":
        from ptq4dit.deploy.onnx_graph import write_onnx

        return lambda twin, folder: write_onnx(twin, folder, pack_4_bits=pack_4_bits)
    from ptq4dit.deploy.openvino_folder import write_openvino

    return lambda twin, folder: write_openvino(twin, folder, timesteps)


def _require(model: Dit, target: str, folder: Path, pack_4_bits: bool) -> None:
    if target not in TARGETS:
        raise ValueError(f"Expected a target among {TARGETS}, got {target!r}.")
    if importlib.util.find_spec(_MODULES[target]) is None:
        name = _MODULES[target]
        raise ValueError(f"Exporting to {target} needs the package {name!r}, which is not here: pip install {name}.")
    if pack_4_bits and target != "onnx":
        raise ValueError('pack_4_bits is for target="onnx": OpenVINO would multiply such weights in float.')
    if not describe(model)["quantized"]:
        raise ValueError("Expected a quantized model, got a float one. Use ptq4dit.quantize(...) first.")
    require_writable(folder, KIND)
    require_published(model.torch_transformer)
    for block in range(len(model.torch_transformer.transformer_blocks)):
        require_plain_attention(model.torch_transformer, block)
        block_linears(model.torch_transformer, block)


def _manifest(model: Dit, target: str, folder: Path) -> dict[str, Any]:
    shape = [-1, *model.latent_shape]
    return {
        "format": FORMAT,
        "target": target,
        "execution": "integer where the runtime has int8 kernels for the quantized products",
        "inputs": {"latents": ["float32", shape], "timestep": ["int64", [-1]], "class_labels": ["int64", [-1]]},
        "output": {"sample": ["float32", [-1, int(model.torch_transformer.out_channels), *shape[2:]]]},
        "null_class": model.null_class,
        "id2label": {str(key): name for key, name in model.id2label.items()},
        "scheduler": {"class": type(model.scheduler).__name__} | dict(model.scheduler.config),
        "model": describe(dataclasses.replace(model, source=portable_source(model.source))),
        "sha256": {path.name: _digest(path) for path in sorted(folder.iterdir())},
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
