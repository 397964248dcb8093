"""A layer of a graph by its kind: with a static grid (`openvino_linear`), scales of every token (`openvino_token`), or
in float.
"""

from typing import Any

from openvino import opset15 as op
from torch import nn

from ptq4dit.backends import openvino_linear, openvino_token
from ptq4dit.backends.integer_linear import IntegerLinear, integer_linear_of, require_one_grid
from ptq4dit.backends.openvino_linear import Node, floats
from ptq4dit.backends.token_linear import TokenLinear, finds_scales, token_linear_of
from ptq4dit.quantized.linear import QuantizedLinear

GraphLinear = IntegerLinear | TokenLinear


def graph_linear_of(name: str, linears: list[nn.Module], native: bool | None = None) -> GraphLinear:
    """Linears that read the same input as the one that a graph holds.

    Args:
        name: of the layer.
        linears: quantized ones.
        native: whether the runtime rounds inputs whose scales are found at run time; None to refuse such.

    Raises:
        ValueError: if no integers express them; the message names the layer and what to choose instead.
    """
    if native is not None and finds_scales(linears[0]):
        return token_linear_of(name, linears, native=native)
    return require_one_grid(integer_linear_of(name, linears))


def rounded(x: Node, layer: GraphLinear, *, alone: bool = True) -> Any:
    """The input of a layer, for `product`; linears that round one input alike (``layer.rounding``) may share it.

    Args:
        x: the input.
        layer: whose input it is.
        alone: nothing else reads ``x``.
    """
    if isinstance(layer, TokenLinear):
        return openvino_token.token_input(x, layer)
    return openvino_linear.rounded(x, layer, alone=alone)


def product(given: Any, layer: GraphLinear, part: str = "") -> Node:
    """The layer's output; ``part`` tells apart those that make one layer together."""
    if isinstance(layer, TokenLinear):
        return openvino_token.token_product(given, layer, part)
    return openvino_linear.product(given, layer, part)


def layer_product(x: Node, layer: GraphLinear) -> Node:
    """Round the input to integers and multiply."""
    return product(rounded(x, layer), layer)


def linear(x: Node, name: str, module: nn.Module, native: bool | None = None) -> Node:
    """A linear of the twin: on integers where it is quantized, else in float; ``native`` as in `graph_linear_of`."""
    if isinstance(module, QuantizedLinear):
        return layer_product(x, graph_linear_of(name, [module], native))
    weight, bias = module.weight.detach().flatten(1), module.bias  # type: ignore[operator]
    result = op.matmul(x, floats(weight), False, True)
    return result if bias is None else op.add(result, floats(bias.detach()))  # type: ignore[operator]
