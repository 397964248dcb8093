"""A quantized transformer as an OpenVINO graph, traced from one call.

Its quantized linears and the products of its rounded attentions are traced as operations of our own, which the
conversion replaces by the same integer products that graphs written by hand hold (`openvino_linear`,
`openvino_attention`); all else is what OpenVINO makes of torch's operations, in float32.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch import ConversionExtension
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn
from torch.utils import _pytree as tree

from ptq4dit.backends.call import TakenCall
from ptq4dit.backends.dependence import Dependence
from ptq4dit.backends.marks import LINEAR, PRODUCT, marked, wide
from ptq4dit.backends.openvino_attention import AttentionGrids, attention_grids, rounded_product
from ptq4dit.backends.openvino_layers import GraphLinear, graph_linear_of, product, rounded
from ptq4dit.backends.openvino_linear import Node
from ptq4dit.quantized.attention import ROUNDING, RoundedProduct
from ptq4dit.quantized.linear import QuantizedLinear


def trace_graph(
    twin: Any, call: TakenCall, inputs: Sequence[int], native: bool | None = None
) -> tuple[openvino.Model, list[str], list[str]]:
    """The graph of one call, and the names of the quantized linears and the rounded attentions in it (their paths).

    What the call does not make use of is not in the graph.

    Args:
        twin: the simulated model, left as it is.
        call: its tensors that are not ``inputs`` become constants.
        inputs: leaves of the call that the graph is given, in order; their sizes are free where the trace allows.
        native: how inputs whose scales are found at run time are rounded, see `graph_linear_of`; None to refuse such.

    Raises:
        ValueError: if a linear or an attention cannot run on integers, or OpenVINO has no operation for something in
            the forward.
    """
    layers = {name: module for name, module in twin.named_modules() if isinstance(module, QuantizedLinear)}
    described = [graph_linear_of(name, [module], native) for name, module in layers.items()]
    attentions = graph_attentions(twin)
    example = tuple(wide(call.leaves[index]) for index in inputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what a trace warns of is what `Dependence` finds
        traced = torch.jit.trace(_Traced(marked(twin, layers, attentions), call, inputs), example, check_trace=False)
        try:
            graph = _converted(traced, example, described, list(attentions.items()))
        except Exception as error:  # other people's converters raise anything
            raise ValueError(
                f"Expected a {type(twin).__name__} that OpenVINO can convert, got an operation that it cannot: "
                f'{_first_lines(error)}. Choose backend="simulated".'
            ) from error
    parts = {operation.get_friendly_name().split("/")[0] for operation in graph.get_ordered_ops()}
    used = [name for name in attentions if f"{name}.scores" in parts]
    return graph, [name for name in layers if name in parts], used


def graph_attentions(twin: nn.Module) -> dict[str, AttentionGrids]:
    """Path of each attention whose product is rounded -> its grids.

    Raises:
        ValueError: see `attention_grids`.
    """
    found = {
        path.removesuffix(f".{ROUNDING}"): attention_grids(path.removesuffix(f".{ROUNDING}"), module)
        for path, module in twin.named_modules()
        if isinstance(module, RoundedProduct)
    }
    return {path: grids for path, grids in found.items() if grids is not None}


class _Traced(nn.Module):
    """A call as a function of its inputs alone; gives the tensors of the output."""

    def __init__(self, transformer: Any, call: TakenCall, inputs: Sequence[int]) -> None:
        super().__init__()
        self.transformer, self._inputs = transformer, list(inputs)
        self._call = [call]  # in a list: no part of the module's state

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        (call,) = self._call
        given = dict(zip(self._inputs, tensors, strict=True))
        constants = {index: wide(call.leaves[index]) for index in call.tensors if index not in given}
        args, kwargs = call.arguments(constants | given)
        with Dependence(given, tracing=True):
            output = self.transformer(*args, **kwargs)
        return tuple(leaf for leaf in tree.tree_leaves(output) if isinstance(leaf, Tensor))


def _converted(
    traced: Any,
    example: tuple[Tensor, ...],
    layers: Sequence[GraphLinear],
    attentions: Sequence[tuple[str, AttentionGrids]],
) -> openvino.Model:
    seen: dict[Any, Any] = {}

    def convert(context: Any) -> list[Node]:
        layer, x = layers[int(context.get_values_from_const_input(1))], context.get_input(0)
        result = product(_rounded_once(x, layer, seen), layer)
        return [result.output(0)]

    def convert_product(context: Any) -> list[Node]:
        q, k, v = (context.get_input(place) for place in range(3))
        mask = context.get_input(3) if context.get_values_from_const_input(4) else None
        name, grids = attentions[int(context.get_values_from_const_input(5))]
        scale = float(context.get_values_from_const_input(6))
        return [rounded_product(q, k, v, mask, grids=grids, scale=scale, name=name).output(0)]

    front = FrontEndManager().load_by_framework("pytorch")
    front.add_extension(ConversionExtension(LINEAR, convert))
    front.add_extension(ConversionExtension(PRODUCT, convert_product))
    decoder = TorchScriptPythonDecoder(traced, example_input=example, shared_memory=True)
    graph = front.convert(front.load(decoder))
    for port, tensor in zip(graph.inputs, example, strict=True):
        port.get_node().set_partial_shape(openvino.PartialShape([-1] * tensor.ndim))
        port.get_node().set_element_type(_TYPES[tensor.dtype])
    graph.validate_nodes_and_infer_types()
    return graph


_TYPES = {
    torch.float32: openvino.Type.f32,
    torch.int64: openvino.Type.i64,
    torch.int32: openvino.Type.i32,
    torch.bool: openvino.Type.boolean,
}


def _rounded_once(x: Node, layer: GraphLinear, seen: dict[Any, Any]) -> Any:
    """`rounded`; linears that round one tensor alike, such as q, k and v, share what comes out."""
    key = x.get_node().get_name(), x.get_index(), layer.rounding
    if key not in seen:
        seen[key] = rounded(x, layer, alone=False)
    return seen[key]


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip().startswith("-- ")]
    return "; ".join(line[3:].removesuffix(" with a message:") for line in lines[:3]) or str(error).splitlines()[0]
