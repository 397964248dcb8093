"""The integer backend of CPUs: a quantized DiT's step compiled by OpenVINO and kept on disk."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import openvino
import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.backends import openvino_graph, plan
from ptq4dit.backends.forward import Modulation
from ptq4dit.backends.integer import IntegerTransformer
from ptq4dit.backends.lean import lean_copy, return_freed_memory
from ptq4dit.backends.mapped import map_integers, release_pages
from ptq4dit.backends.openvino_cache import CompiledCache, cache_folder, content_key, payload_bytes
from ptq4dit.backends.openvino_graph import build_graph
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.linears import ROLES

_CONDITIONING = (".norm1.emb.", ".norm1.linear.", "proj_out_1.")
"""Tensors that the graph does not contain."""
_SHOWN = ("layerType", "originalLayersNames", "runtimePrecision")
_VERSION = openvino.__version__.split("-")[0]


def build(twin: Any, options: IntegerOptions) -> IntegerTransformer:
    """Compile a quantized transformer, or take it from the cache.

    Args:
        twin: a quantized ``DiTTransformer2DModel`` on the CPU; left as it is.
        options: threads, precision of the float parts, cache.

    Raises:
        ValueError: if a layer cannot run on integers, here or on this CPU, or the cache cannot be written.
    """
    lean = lean_copy(twin)
    properties = _properties(options)
    cache = CompiledCache(folder=cache_folder(options.cache), limit=options.cache_bytes)
    key = content_key(_content(lean, properties))
    path = cache.find(key)
    if path is None:
        path = cache.store(key, lambda file: _compile(lean, properties, file))
    release = map_integers(lean, cache, key)
    return IntegerTransformer(lean, OpenVinoStep(path, properties), f"OpenVINO {_VERSION}, CPU", release)


class OpenVinoStep:
    """A compiled step, called like `forward.predict`; calls from several threads wait for each other.

    The file stays mapped: OpenVINO packs the weights for its kernels when it first runs, after which the mapped
    originals need not stay in memory.
    """

    def __init__(self, path: Path, properties: dict[str, Any]) -> None:
        self._lock, self._settled = Lock(), False
        self._file = np.memmap(path, np.uint8, mode="c", shape=(payload_bytes(path),))
        blob = openvino.Tensor(self._file, shared_memory=True)
        self.compiled = openvino.Core().import_model(blob, "CPU", properties)
        self._request = self.compiled.create_infer_request()

    def __call__(
        self, latents: Float[Tensor, "row channel height width"], modulation: Modulation
    ) -> Float[Tensor, "row out_channel height width"]:
        """The output for these latents."""
        blocks = modulation.blocks.permute(1, 2, 0, 3).flatten(0, 1)
        inputs = {"latents": latents, "blocks": blocks, "final": modulation.final.transpose(0, 1)}
        arrays = {name: tensor.detach().float().contiguous().numpy() for name, tensor in inputs.items()}
        with self._lock:
            result = self._request.infer(arrays, share_inputs=True)[0].copy()
            self._settle()
        return torch.from_numpy(result).to(latents.dtype)

    def _settle(self) -> None:
        if not self._settled:
            release_pages(self._file)
            return_freed_memory()
            self._settled = True


def linear_precisions(compiled: openvino.CompiledModel) -> dict[str, str]:
    """Layer name -> the type in which the compiled graph multiplies, such as ``"u8"`` or ``"f32"``."""
    precisions = {}
    for node in compiled.get_runtime_model().get_ops():
        info = {key: value.astype(str) for key, value in node.get_rt_info().items() if key in _SHOWN}
        for name in info.get("originalLayersNames", "").split(","):
            if name.startswith("blocks.") and info["layerType"] in ("FullyConnected", "MatMul"):
                precisions[name.split("/")[0]] = info["runtimePrecision"]
    return precisions


def require_integer_products(precisions: dict[str, str], blocks: int) -> None:
    """Refuse a compiled graph in which a block linear does not multiply 8-bit integers.

    Args:
        precisions: what `linear_precisions` found.
        blocks: number of blocks.

    Raises:
        ValueError: naming the first such layer.
    """
    for name in (f"blocks.{block}.{role}" for block in range(blocks) for role in ROLES):
        if precisions.get(name) not in ("u8", "i8"):
            raise ValueError(
                f"Expected {name!r} to multiply 8-bit integers, got {precisions.get(name, 'no product')}: OpenVINO "
                f"{_VERSION} has no such kernel for this CPU. It needs AVX2 or VNNI; choose "
                'backend="simulated" here.'
            )


def _compile(twin: Any, properties: dict[str, Any], file: Path) -> None:
    compiled = openvino.Core().compile_model(build_graph(twin), "CPU", properties)
    require_integer_products(linear_precisions(compiled), len(twin.transformer_blocks))
    file.write_bytes(compiled.export_model().getvalue())


def _properties(options: IntegerOptions) -> dict[str, Any]:
    threads = {} if options.threads is None else {"INFERENCE_NUM_THREADS": options.threads}
    return {"INFERENCE_PRECISION_HINT": options.precision, "PERFORMANCE_HINT": "LATENCY", **threads}


def _content(twin: Any, properties: dict[str, Any]) -> Iterator[bytes | memoryview]:
    """All that the compiled model depends on."""
    cpu = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    yield json.dumps([openvino.__version__, cpu, properties, dict(twin.config)], default=str, sort_keys=True).encode()
    yield from (inspect.getsource(module).encode() for module in (openvino_graph, plan))
    for name, tensor in twin.state_dict().items():
        if not any(part in name for part in _CONDITIONING):
            yield f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode()
            yield tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
