"""A linear whose input is rounded with scales found at run time, as operations of OpenVINO: in one of two ways.

*Native*: the weight stays in the smallest type that holds it (``i4``, ``u4``, ``i8``, ``u8``), expanded in the graph by
convert, subtract, multiply and, in groups, reshape. OpenVINO 2026.4 makes one product of all that, and where the
property ``DYNAMIC_QUANTIZATION_GROUP_SIZE`` fits and the processor has VNNI it rounds the input itself, to signed bytes
in groups of so many channels: ``s = max|x| / 127``, ``q = round(x / s)``. Where anything does not fit it multiplies
floats, without a word (`token_route` tries it).

*Written out*: each token is divided by its own scale, so that one grid of whole numbers serves all of them, and the
product of a static grid (`openvino_linear`) does the rest; each token's sums are multiplied by its scale. That runs on
integers wherever a static one does. Where several scales meet in one row, their products are added up.
"""

from dataclasses import dataclass

import numpy as np
import openvino
import torch
from jaxtyping import Float, Integer
from openvino import opset15 as op
from torch import Tensor

from ptq4dit.backends.integer_linear import IntegerLinear
from ptq4dit.backends.openvino_linear import Node, floats, integers, product
from ptq4dit.backends.token_linear import TokenLinear

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, kw_only=True)
class TokenInput:
    """An input of a `TokenLinear`, ready for products.

    Attributes:
        values: the floats that the runtime rounds; None where rounding is written out.
        groups: integers from 0, scale, and zero point (None if symmetric) of each group of channels.
    """

    values: Node | None
    groups: tuple[tuple[Node, Node, Node | None], ...] = ()


def token_input(x: Node, layer: TokenLinear) -> TokenInput:
    """Everything that linears which round one input alike may share."""
    if layer.input_factor is not None:
        x = op.multiply(x, floats(layer.input_factor))
    if layer.native:
        return TokenInput(values=x)
    count = layer.weight_q.shape[1] // layer.input_group
    return TokenInput(values=None, groups=tuple(_rounded(part, layer) for part in _split(x, count)))


def token_product(given: TokenInput, layer: TokenLinear, part: str = "") -> Node:
    """The layer's output; ``part`` tells apart those that make one layer together."""
    if given.values is not None:
        result = op.matmul(given.values, native_weight(layer), False, True)
        result.set_friendly_name(layer.name + part)
        result = op.add(result, floats(layer.bias))
        result.set_friendly_name(f"{layer.name}{part}/bias")
        return result
    each = layer.input_group // layer.part_size
    pieces = [(q, scale, zero) for group, scale, zero in given.groups for q in _split(group, each)]
    names = [part] if len(pieces) == 1 else [f"{part}/{index}" for index in range(len(pieces))]
    total = None
    for (q, scale, zero), columns, name in zip(pieces, layer.parts(), names, strict=True):
        scaled = _scaled(q, scale, zero, columns, name)
        total = scaled if total is None else op.add(total, scaled)
    return op.add(total, floats(layer.bias))


def native_weight(layer: TokenLinear) -> Node:
    """The weight ``(d_out, d_in)``, in a form that is never expanded in memory."""
    rows, columns = layer.weight_q.shape
    groups = layer.weight_scale.shape[1]
    shape = [rows, columns] if groups == 1 else [rows, groups, layer.weight_group]
    scale_shape = [*shape[:-1], 1]
    scale = _usable_scale(layer).reshape(scale_shape)
    if layer.weight_symmetric:
        signed = layer.weight_q.to(torch.int16) - 2 ** (layer.weight_bits - 1)
        node = op.convert(_constant(signed.to(torch.int8).reshape(shape), layer.native_type), "f32")
    else:
        zero_point = _constant(layer.weight_zero_point.to(torch.uint8).reshape(scale_shape), layer.native_type)
        node = op.convert(_constant(layer.weight_q.reshape(shape), layer.native_type), "f32")
        node = op.subtract(node, op.convert(zero_point, "f32"))
    node = op.multiply(node, floats(scale))
    return node if groups == 1 else op.reshape(node, op.constant(np.array([rows, columns], np.int64)), False)


def _usable_scale(layer: TokenLinear) -> Float[Tensor, "d_out groups"]:
    """Scales; 1 for groups of zeros, whose own may be too small to multiply."""
    steps = layer.weight_q.unflatten(1, (layer.weight_scale.shape[1], -1))
    zeros = (steps == layer.weight_zero_point[..., None]).all(dim=-1)
    return torch.where(zeros, 1.0, layer.weight_scale)


def _constant(values: Integer[Tensor, "..."], kind: str) -> Node:
    """Integers in a type of the runtime's, its own copy: two of them to a byte in 4 bits."""
    return op.constant(np.ascontiguousarray(values.cpu().numpy()), dtype=getattr(openvino.Type, kind))


def _rounded(x: Node, layer: TokenLinear) -> tuple[Node, Node, Node | None]:
    """Integers from 0, scale and zero point of every token."""
    spec, axis = layer.spec, op.constant(np.array([-1], np.int64))
    if spec.symmetric:
        largest = op.reduce_max(op.abs(x), axis, True)
        scale = _at_least_tiny(op.multiply(largest, _number(1 / spec.qmax)))
        return integers(op.divide(x, scale), spec.qmax + 1), scale, None
    low = op.minimum(op.reduce_min(x, axis, True), _number(0.0))
    high = op.maximum(op.reduce_max(x, axis, True), _number(0.0))
    scale = _at_least_tiny(op.multiply(op.subtract(high, low), _number(1 / spec.qmax)))
    zero = op.negative(op.round(op.divide(low, scale), "HALF_TO_EVEN"))
    zero = op.clamp(zero, 0.0, float(spec.qmax))
    steps = op.clamp(op.add(op.divide(x, scale), zero), 0.0, float(spec.qmax))
    return integers(steps, 0), scale, zero


def _scaled(q: Node, scale: Node, zero: Node | None, columns: IntegerLinear, name: str) -> Node:
    """``s_x s_w sum_k (q_x - z_x) (q_w - z_w)`` of one run of columns."""
    sums = product(q, columns, name)
    if zero is not None:
        sums = op.subtract(sums, op.multiply(zero, floats(columns.combined_scale * columns.row_sums)))
    return op.multiply(sums, scale)


def _split(x: Node, count: int) -> list[Node]:
    """Equal runs of the last axis."""
    return [x] if count == 1 else op.split(x, op.constant(np.int64(-1)), count).outputs()


def _at_least_tiny(scale: Node) -> Node:
    return op.maximum(scale, _number(_TINY))


def _number(value: float) -> Node:
    return op.constant(np.float32(value))
