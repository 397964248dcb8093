"""The integer backend of CPUs: a quantized DiT's step compiled by OpenVINO and kept on disk."""

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import openvino
import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.backends import openvino_graph, openvino_linear, plan
from ptq4dit.backends.integer import IntegerTransformer
from ptq4dit.backends.mapped_weights import map_integers, release_pages
from ptq4dit.backends.openvino_cache import CompiledCache, cache_folder, content_key, payload_bytes
from ptq4dit.backends.openvino_graph import build_graph
from ptq4dit.backends.options import IntegerOptions, chosen_precision
from ptq4dit.backends.shared_copies import lean_copy, return_freed_memory
from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.model.forward import Modulation
from ptq4dit.model.layers import ROLES
from ptq4dit.quantized.linear import QuantizedLinear

_CONDITIONING = (".norm1.emb.", ".norm1.linear.", "proj_out_1.")
"""Tensors that the graph does not contain."""
_INTEGERS = ("u8", "i8")
_SHOWN = ("layerType", "originalLayersNames", "runtimePrecision")
_REST = {
    "f32": "rest in f32",
    "mixed": "attention in bf16, rest in f32",
    "bf16": "rest in bf16",
}
_VERSION = openvino.__version__.split("-")[0]


def build(twin: Any, options: IntegerOptions) -> IntegerTransformer:
    """Compile a quantized transformer, or take it from the cache.

    Args:
        twin: a quantized ``DiTTransformer2DModel`` on the CPU; left as it is.
        options: threads, precision of the float parts, cache.

    Raises:
        ValueError: if a layer cannot run on integers, here or on this CPU, this CPU has no products of the precision
            that is asked for, or the cache cannot be written.
    """
    lean = lean_copy(twin)
    precision = chosen_precision(options.precision, *_size(lean), cpu_capabilities())
    properties = _properties(options.threads, precision)
    cache = CompiledCache(folder=cache_folder(options.cache), limit=options.cache_bytes)
    key = content_key(_content(lean, precision, properties, options.batch))
    step = _ready(cache, key, properties, lambda file: _compile(lean, precision, properties, options.batch, file))
    release = map_integers(lean, cache, key)
    rows = "" if options.batch is None else f", {options.batch} rows a call"
    runtime = f"OpenVINO {_VERSION}, CPU, {_REST[precision]}{rows}"
    return IntegerTransformer(lean, step, runtime, release)


class OpenVinoStep:
    """A compiled step, called like `forward.predict`; calls from several threads wait for each other.

    The file stays mapped: OpenVINO packs the weights for its kernels when it first runs, after which the mapped
    originals need not stay in memory.
    """

    def __init__(self, path: Path, properties: dict[str, Any]) -> None:
        self.path, self.properties = path, properties
        self._lock, self._settled = Lock(), False
        self._file = np.memmap(path, np.uint8, mode="c", shape=(payload_bytes(path),))
        blob = openvino.Tensor(self._file, shared_memory=True)
        self.compiled = openvino.Core().import_model(blob, "CPU", properties)
        rows = self.compiled.input(0).partial_shape[0]
        self._rows = int(rows.get_length()) if rows.is_static else None
        self._request = self.compiled.create_infer_request()

    def __call__(
        self, latents: Float[Tensor, "row channel height width"], modulation: Modulation
    ) -> Float[Tensor, "row out_channel height width"]:
        """The output for these latents.

        Raises:
            ValueError: for another number of rows than the graph was compiled for.
        """
        if self._rows not in (None, len(latents)):
            raise ValueError(
                f"Expected {self._rows} rows, as the integer backend was asked to compile for, got {len(latents)}. "
                "Choose IntegerOptions(batch=None) for any number."
            )
        blocks = modulation.blocks.permute(1, 2, 0, 3).flatten(0, 1)
        given = [_shared(tensor) for tensor in (latents, blocks, modulation.final.transpose(0, 1))]
        with self._lock:
            for index, tensor in enumerate(given):
                self._request.set_input_tensor(index, tensor)
            self._request.infer(share_outputs=True)
            result = self._request.get_output_tensor(0).data.copy()
            self._settle()
        return torch.from_numpy(result).to(latents.dtype)

    def node_ms(self) -> dict[str, float]:
        """Milliseconds of each node, the mean of all calls so far; for steps with the property ``PERF_COUNT``."""
        with self._lock:
            counted = self._request.get_profiling_info()
        return {node.node_name: 1e3 * node.real_time.total_seconds() for node in counted}

    def _settle(self) -> None:
        if not self._settled:
            release_pages(self._file)
            return_freed_memory()
            self._settled = True


def cpu_capabilities() -> list[str]:
    """Types in which OpenVINO multiplies on this CPU, such as ``"BF16"``."""
    return openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def linear_precisions(compiled: openvino.CompiledModel) -> dict[str, str]:
    """Layer name -> the type in which the compiled graph multiplies, such as ``"u8"`` or ``"f32"``.

    Where several products make one layer, a float one among them decides.
    """
    precisions: dict[str, str] = {}
    for node in compiled.get_runtime_model().get_ops():
        info = {key: value.astype(str) for key, value in node.get_rt_info().items() if key in _SHOWN}
        for name in info.get("originalLayersNames", "").split(","):
            if name.startswith("blocks.") and info["layerType"] in ("FullyConnected", "MatMul"):
                layer = name.split("/")[0]
                if precisions.get(layer, "u8") in _INTEGERS:
                    precisions[layer] = info["runtimePrecision"]
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
        if precisions.get(name) not in _INTEGERS:
            raise ValueError(
                f"Expected {name!r} to multiply 8-bit integers, got {precisions.get(name, 'no product')}: OpenVINO "
                f"{_VERSION} has no such kernel for this CPU. It needs AVX2 or VNNI; choose "
                'backend="simulated" here.'
            )


def _shared(tensor: Tensor) -> openvino.Tensor:
    """A torch tensor as float32 of OpenVINO, without a copy where it is that already."""
    return openvino.Tensor(tensor.detach().float().contiguous().numpy(), shared_memory=True)


def _ready(cache: CompiledCache, key: str, properties: dict[str, Any], write: Callable[[Path], None]) -> OpenVinoStep:
    """The step from the cache, compiled where there is none or one that this runtime cannot read."""
    path = cache.find(key)
    if path is not None:
        try:
            return OpenVinoStep(path, properties)
        except RuntimeError:  # whole, but another build of the runtime wrote it
            path.unlink(missing_ok=True)
    return OpenVinoStep(cache.store(key, write), properties)


def _compile(twin: Any, precision: str, properties: dict[str, Any], batch: int | None, file: Path) -> None:
    graph = build_graph(twin, half_attention=precision == "mixed")
    if batch is not None:
        graph.reshape(
            {port: [batch if size.is_dynamic else size for size in port.partial_shape] for port in graph.inputs}
        )
    compiled = openvino.Core().compile_model(graph, "CPU", properties)
    require_integer_products(linear_precisions(compiled), len(twin.transformer_blocks))
    file.write_bytes(compiled.export_model().getvalue())


def _size(twin: Any) -> tuple[int, int]:
    """Tokens of a picture, and the fewest bits of any block linear's input."""
    modules = twin.transformer_blocks.modules()
    bits = [module.config.activation_bits for module in modules if isinstance(module, QuantizedLinear)]
    return int(twin.pos_embed.pos_embed.shape[1]), min(bits, default=FLOAT_BITS)


def _properties(threads: int | None, precision: str) -> dict[str, Any]:
    hint = "bf16" if precision == "bf16" else "f32"
    chosen = {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    return {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", **chosen}


def _content(twin: Any, precision: str, properties: dict[str, Any], batch: int | None) -> Iterator[bytes | memoryview]:
    """All that the compiled model depends on."""
    cpu = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    saturates = openvino_linear.products_saturate()
    settings = [openvino.__version__, cpu, saturates, precision, properties, dict(twin.config), batch]
    yield json.dumps(settings, default=str, sort_keys=True).encode()
    yield from (inspect.getsource(module).encode() for module in (openvino_graph, openvino_linear, plan))
    for name, tensor in twin.state_dict().items():
        if not any(part in name for part in _CONDITIONING):
            yield f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode()
            yield tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
