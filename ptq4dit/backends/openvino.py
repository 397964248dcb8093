"""The integer backend of CPUs: a quantized transformer compiled by OpenVINO and kept on disk."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import openvino
import torch
from torch import nn

from ptq4dit.backends import (
    dit_layers,
    integer_linear,
    marks,
    openvino_attention,
    openvino_graph,
    openvino_layers,
    openvino_linear,
    openvino_modulation,
    openvino_token,
    rewritten,
    token_linear,
    tracing,
)
from ptq4dit.backends.compiled_graph import OpenVinoStep, ready
from ptq4dit.backends.dit_layers import is_published_dit
from ptq4dit.backends.mapped_weights import constants_in, map_integers, stored_integers
from ptq4dit.backends.openvino_attention import attention_grids, multiplied, require_integer_attention
from ptq4dit.backends.openvino_cache import CompiledCache, cache_folder, content_key
from ptq4dit.backends.openvino_graph import build_graph
from ptq4dit.backends.openvino_modulation import (
    OpenVinoModulation,
    build_modulation_graph,
    has_integer_modulation,
    modulation_names,
)
from ptq4dit.backends.options import IntegerOptions, chosen_precision
from ptq4dit.backends.products import linear_precisions, require_integer_products
from ptq4dit.backends.shared_copies import lean_copy
from ptq4dit.backends.token_route import TokenRoute, token_route
from ptq4dit.backends.traced import TracedStep
from ptq4dit.backends.tracing import graph_attentions
from ptq4dit.backends.transformer import IntegerDit, IntegerTransformer, as_integer
from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.model.forward import Modulation, modulate
from ptq4dit.model.layers import ROLES
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.storage.mapped_file import bytes_of
from ptq4dit.version import __version__

_CONDITIONING = (".norm1.emb.", ".norm1.linear.", "proj_out_1.")
"""Tensors that a DiT's graph does not contain."""
_MODULATION = (".norm1.linear.", "proj_out_1.")
_LAYERS: tuple[ModuleType, ...] = (openvino_layers, openvino_linear, openvino_token, integer_linear, token_linear)
_TRACERS: tuple[ModuleType, ...] = (tracing, marks, rewritten, openvino_attention, *_LAYERS)
"""What writes a traced graph: another source of one of them is another graph in the cache."""
_WRITERS: tuple[ModuleType, ...] = (openvino_graph, openvino_attention, dit_layers, *_LAYERS)
_REST = {
    "f32": "rest in f32",
    "mixed": "attention in bf16, rest in f32",
    "bf16": "rest in bf16",
}
_VERSION = openvino.__version__.split("-")[0]


def build(twin: Any, options: IntegerOptions) -> IntegerTransformer:
    """Compile a quantized transformer, or take it from the cache.

    A class-conditional DiT of the published architecture at once, from a graph written by hand; any other transformer
    when it is first called, from a trace of that call.

    Args:
        twin: a quantized transformer on the CPU; left as it is.
        options: threads, precision of the float parts, cache.

    Raises:
        ValueError: if a layer cannot run on integers, here or on this CPU, this CPU has no products of the precision
            that is asked for, or the cache cannot be written.
    """
    return _dit(twin, options) if is_published_dit(twin) else _traced(twin, options)


def cpu_capabilities() -> list[str]:
    """Types in which OpenVINO multiplies on this CPU, such as ``"BF16"``."""
    return openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _dit(twin: Any, options: IntegerOptions) -> IntegerTransformer:
    lean = lean_copy(twin)
    precision = chosen_precision(options.precision, *_size(lean), cpu_capabilities())
    properties = _properties(options.threads, precision)
    layers = {k: v for k, v in _quantized(lean).items() if not any(part in f"{k}." for part in _CONDITIONING)}
    rounded = _rounded_attentions(lean)
    precision = "f32" if rounded and precision == "mixed" else precision
    properties, native, tokens = _token_settings(token_route(layers, properties), properties)
    cache = CompiledCache(folder=cache_folder(options.cache), limit=options.cache_bytes)
    settings = {"precision": precision, "properties": properties, "batch": options.batch, "native": native}
    key = content_key(_content(lean, settings, _WRITERS, _CONDITIONING))

    def write(file: Path) -> None:
        with constants_in(file.with_name("constants"), lean):
            graph = build_graph(lean, half_attention=precision == "mixed", native=native)
        if options.batch is not None:
            graph.reshape({port: _fixed(port, options.batch) for port in graph.inputs})
        blocks = range(len(lean.transformer_blocks))
        _compile(graph, [f"blocks.{block}.{role}" for block in blocks for role in ROLES], properties, file, rounded)

    step = ready(OpenVinoStep, cache, key, properties, write)
    modulation = _modulation(lean, options, cache)
    map_integers(lean, cache)
    rows = "" if options.batch is None else f", {options.batch} rows a call"
    attention = f", {multiplied()}" if rounded else ""
    runtime = f"OpenVINO {_VERSION}, CPU{attention}, {_REST[precision]}{tokens}{rows}"
    again = functools.partial(build, options=options)
    return as_integer(IntegerDit, lean, step=step, runtime=runtime, _build=again, _modulation=modulation)


def _modulation(lean: Any, options: IntegerOptions, cache: CompiledCache) -> Callable[..., Modulation]:
    """On integers where that is what it is; else by the twin."""
    if not has_integer_modulation(lean):
        return modulate
    properties = _properties(options.threads, "f32")
    writers = (openvino_modulation, *_LAYERS)
    key = content_key(_content(lean, {"modulation of all blocks": properties}, writers, (), only=_MODULATION))

    def write(file: Path) -> None:
        linears = nn.ModuleList(block.norm1.linear for block in lean.transformer_blocks)
        with constants_in(file.with_name("constants"), linears):
            graph = build_modulation_graph(lean)
        _compile(graph, modulation_names(lean), properties, file)

    return ready(OpenVinoModulation, cache, key, properties, write)


def _traced(twin: Any, options: IntegerOptions) -> IntegerTransformer:
    lean = lean_copy(twin)
    attention = f", {multiplied()}" if graph_attentions(lean) else ""
    if options.precision == "mixed":
        raise ValueError(
            'Expected precision "auto", "f32" or "bf16", got "mixed": only the graph of a class-conditional DiT has '
            "an attention whose precision can be chosen alone."
        )
    asked = "f32" if options.precision == "auto" else options.precision
    precision = chosen_precision(asked, 0, 8, cpu_capabilities())
    properties = _properties(options.threads, precision)
    properties, native, tokens = _token_settings(token_route(_quantized(lean), properties), properties)
    step = TracedStep(
        lean,
        CompiledCache(folder=cache_folder(options.cache), limit=options.cache_bytes),
        properties,
        lambda: content_key(_content(lean, {"properties": properties, "native": native}, _TRACERS, ())),
        rows=options.batch,
        native=native,
    )
    rows = "" if options.batch is None else f", {options.batch} rows a call"
    runtime = f"OpenVINO {_VERSION}, CPU, traced{attention}, {_REST[precision]}{tokens}{rows}"
    again = functools.partial(build, options=options)
    return as_integer(IntegerTransformer, lean, step=step, runtime=runtime, _build=again)


def _quantized(twin: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in twin.named_modules() if isinstance(module, QuantizedLinear)}


def _token_settings(route: TokenRoute | None, properties: dict[str, Any]) -> tuple[dict[str, Any], bool | None, str]:
    """Properties of the graph, how it rounds inputs whose scales are found at run time, and that in words."""
    if route is None:
        return properties, None, ""
    said = "every token, by OpenVINO" if route.native else "every token"
    return properties | dict(route.properties), route.native, f", inputs with a scale for {said}"


def _fixed(port: Any, batch: int) -> list[Any]:
    return [batch if size.is_dynamic else size for size in port.partial_shape]


def _rounded_attentions(twin: Any) -> list[str]:
    """Names of those on integers; one that cannot be is refused."""
    processors = {f"blocks.{i}.attention": block.attn1.processor for i, block in enumerate(twin.transformer_blocks)}
    return [name for name, processor in processors.items() if attention_grids(name, processor) is not None]


def _compile(
    graph: openvino.Model,
    wanted: Iterable[str],
    properties: dict[str, Any],
    file: Path,
    attentions: Iterable[str] = (),
) -> None:
    compiled = openvino.Core().compile_model(graph, "CPU", properties)
    require_integer_products(linear_precisions(compiled), wanted)
    require_integer_attention(compiled, attentions)
    file.write_bytes(compiled.export_model().getbuffer())


def _size(twin: Any) -> tuple[int, int]:
    """Tokens of a picture, and the fewest bits of any block linear's input."""
    modules = twin.transformer_blocks.modules()
    bits = [module.config.activation_bits for module in modules if isinstance(module, QuantizedLinear)]
    return int(twin.pos_embed.pos_embed.shape[1]), min(bits, default=FLOAT_BITS)


def _properties(threads: int | None, precision: str) -> dict[str, Any]:
    hint = "bf16" if precision == "bf16" else "f32"
    chosen = {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    return {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", **chosen}


def _content(
    twin: nn.Module,
    settings: dict[str, Any],
    writers: Iterable[ModuleType],
    without: tuple[str, ...],
    *,
    only: tuple[str, ...] = ("",),
) -> Iterator[bytes | memoryview]:
    """All that a compiled model depends on, in an order of its own: versions, settings of every layer, tensors."""
    cpu = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    saturates = openvino_linear.products_saturate()
    config = {name: value for name, value in dict(getattr(twin, "config", {})).items() if not name.startswith("_")}
    layers = {
        name: dataclasses.asdict(module.config)
        for name, module in twin.named_modules()
        if isinstance(module, QuantizedLinear)
    }
    about = [__version__, openvino.__version__, torch.__version__, cpu, saturates, type(twin).__qualname__]
    yield json.dumps([about, settings, config, layers], default=_plain, sort_keys=True).encode()
    yield from (inspect.getsource(module).encode() for module in writers)
    for path, module in twin.named_modules():
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            name = f"{path}.{key}"
            wanted = any(part in name for part in only) and not any(part in name for part in without)
            if tensor is None or key in module._non_persistent_buffers_set or not wanted:
                continue
            if key == "weight_q" and isinstance(module, QuantizedLinear):
                yield f"{name} integers".encode()
                yield from stored_integers(module)
            else:
                yield f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode()
                yield from bytes_of(tensor)


def _plain(value: Any) -> Any:
    """What JSON has no form for, in one that is the same in every process."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
