"""A quantized transformer as an OpenVINO graph, traced from one call.

Its quantized linears and the products of its rounded attentions are traced as operations of our own, which the
conversion replaces by the same integer products that graphs written by hand hold (`openvino_linear`,
`openvino_attention`); all else is what OpenVINO makes of torch's operations, in float32.
"""

import functools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import openvino
import torch
from jaxtyping import Float
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch import ConversionExtension
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn
from torch.utils import _pytree as tree

from ptq4dit.backends.call import TakenCall
from ptq4dit.backends.dependence import Dependence
from ptq4dit.backends.openvino_attention import AttentionGrids, attention_grids, rounded_product
from ptq4dit.backends.openvino_layers import GraphLinear, graph_linear_of, product, rounded
from ptq4dit.backends.openvino_linear import Node
from ptq4dit.backends.shared_copies import shallow_copy
from ptq4dit.model.attention import Product, of_every_head
from ptq4dit.quantized.attention import ROUNDING, RoundedProduct
from ptq4dit.quantized.linear import QuantizedLinear, QuantizedPatchEmbed

_HIDDEN = -1e30
"""Added to the score of a key that a token does not see: finite, so that one that sees none is no nan."""


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
    example = tuple(_wide(call.leaves[index]) for index in inputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what a trace warns of is what `Dependence` finds
        traced = torch.jit.trace(_Traced(_marked(twin, layers, attentions), call, inputs), example, check_trace=False)
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
        constants = {index: _wide(call.leaves[index]) for index in call.tensors if index not in given}
        args, kwargs = call.arguments(constants | given)
        with Dependence(given, tracing=True):
            output = self.transformer(*args, **kwargs)
        return tuple(leaf for leaf in tree.tree_leaves(output) if isinstance(leaf, Tensor))


class _MarkedLinear(nn.Module):
    """Stands for a quantized linear in a trace."""

    def __init__(self, index: int, layer: QuantizedLinear) -> None:
        super().__init__()
        self.index, self.in_features, self.out_features = index, layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight.detach().float(), layer.bias

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """The operation that the conversion knows."""
        return _marker()(x, self.index, self.out_features)


class _MarkedPatchEmbed(_MarkedLinear):
    """Stands for a quantized patch embedding or 1x1 convolution."""

    def __init__(self, index: int, layer: QuantizedPatchEmbed) -> None:
        super().__init__(index, layer)
        self.patch = layer.patch

    def forward(self, x: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n d_out rows columns"]:
        """``(n, c, h, w) -> (n, d_out, h / patch, w / patch)``."""
        tiles = x.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))
        return super().forward(tiles.permute(0, 2, 4, 1, 3, 5).flatten(3)).permute(0, 3, 1, 2)


class _MarkedProduct(nn.Module):
    """Stands for the rounding of an attention's product in a trace."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, product: Product) -> Float[Tensor, "*heads token value"]:
        """The operation that the conversion knows, with a mask that is added; zeros for tokens that see no key.

        Whether one does is computed in floats: OpenVINO 2026.4 has no kernel for the product with a boolean.
        """
        q, k, v = product.q, of_every_head(product.k, product.q), of_every_head(product.v, product.q)
        mask, scale = product.visible(), product.scale
        if mask is None:
            return _product_marker()(q, k, v, q, False, self.index, scale)
        if mask.dtype != torch.bool:
            return _product_marker()(q, k, v, mask.clamp(min=_HIDDEN), True, self.index, scale)
        added = torch.where(mask, 0.0, _HIDDEN)
        sees = (1.0 + added.amax(dim=-1, keepdim=True) * (-1.0 / _HIDDEN)).clamp(min=0.0)
        return _product_marker()(q, k, v, added, True, self.index, scale) * sees


@functools.cache
def _product_marker() -> Any:
    """The operation ``(q, k, v, mask, whether it counts, index of the attention, scale)``, of which a trace needs the
    output's shape only.
    """

    @torch.library.custom_op("ptq4dit::integer_attention", mutates_args=())
    def integer_attention(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor, masked: bool, index: int, scale: float
    ) -> Tensor:
        return q.new_zeros(*q.shape[:-1], v.shape[-1])

    return integer_attention


@functools.cache
def _marker() -> Any:
    """The operation ``(x, index of the layer, columns)``; a trace needs its output's shape only."""

    @torch.library.custom_op("ptq4dit::integer_linear", mutates_args=())
    def integer_linear(x: Tensor, index: int, columns: int) -> Tensor:
        return x.new_zeros(*x.shape[:-1], columns)

    return integer_linear


def _marked(twin: Any, layers: dict[str, QuantizedLinear], attentions: Iterable[str]) -> Any:
    """A copy in float32, marks in place of quantized linears and attentions' rounding; it shares what is that."""
    result = shallow_copy(twin)
    for index, (name, layer) in enumerate(layers.items()):
        if isinstance(layer, QuantizedPatchEmbed):
            result.set_submodule(name, _MarkedPatchEmbed(index, layer))
        else:
            result.set_submodule(name, _MarkedLinear(index, layer))
    for index, name in enumerate(attentions):
        result.set_submodule(f"{name}.{ROUNDING}", _MarkedProduct(index))
    for module in result.modules():
        for own in (module._parameters, module._buffers):
            for key, tensor in own.items():
                if tensor is not None and tensor.is_floating_point():
                    own[key] = nn.Parameter(_wide(tensor.detach()), requires_grad=False)
    return result.eval()


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
    front.add_extension(ConversionExtension("ptq4dit::integer_linear", convert))
    front.add_extension(ConversionExtension("ptq4dit::integer_attention", convert_product))
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


def _wide(tensor: Tensor) -> Tensor:
    """Floats in float32."""
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip().startswith("-- ")]
    return "; ".join(line[3:].removesuffix(" with a message:") for line in lines[:3]) or str(error).splitlines()[0]
