"""One linear on integers as operations of OpenVINO, and whether this processor's kernels for it lose anything.

Every scale is where OpenVINO's int8 kernels look for it: the input as unsigned integers ``q_x`` (a `FakeQuantize` whose
output range is the integers themselves), weights as signed bytes times ``s_x s_w`` of their row, and everything that
does not depend on the input in the bias (`IntegerLinear`).

A processor without VNNI adds pairs of products in 16 bits and saturates there, which 8-bit weights can reach. Where
that is so (`products_saturate` tries it), such weights are two products, of their halves: exact, at twice the work.
"""

import functools
from typing import Any

import numpy as np
import openvino
import torch
from jaxtyping import Float, Int8
from openvino import opset15 as op
from torch import Tensor

from ptq4dit.backends.integer_linear import IntegerLinear
from ptq4dit.backends.mapped_weights import byte_constant

_LEVELS = 256
Node = Any
"""An output of OpenVINO's graph; its Python bindings have no types."""


def integer_product(x: Node, layer: IntegerLinear) -> Node:
    """Round the input to integers and multiply; see `IntegerLinear` for the formula."""
    return product(rounded(x, layer), layer)


def rounded(x: Node, layer: IntegerLinear, *, alone: bool = True) -> Node:
    """``q_x`` as float values 0 to ``2^bits - 1``; fewer than 8 bits are clamped first, on the same steps.

    Behind a factor what clamps them is a rounding to fewer levels: OpenVINO 2026.4 moves a clamp in front of the
    factor as if that were the same for all channels. And it loses the factor where something else reads ``x``, unless
    there is a maximum between the two.

    Args:
        x: the input.
        layer: whose input it is.
        alone: nothing else reads ``x``.
    """
    scale, zero_point = np.float32(layer.grid[0]), layer.grid[1]
    levels = 2**layer.activation_bits
    low, high, widest = (float(end * scale) for end in (-zero_point, levels - 1 - zero_point, _LEVELS - 1 - zero_point))
    if layer.input_factor is not None:
        x = op.multiply(x, floats(layer.input_factor))
        x = x if alone else op.maximum(x, floats(torch.full_like(layer.input_factor, low)))
        if levels < _LEVELS:
            x = _on_levels(x, (low, high), (low, high), levels)
    elif levels < _LEVELS:
        x = op.clamp(x, low, high)
    return _on_levels(x, (low, widest), (0.0, _LEVELS - 1.0), _LEVELS)


def integers(steps: Node, zero_point: int) -> Node:
    """``round(steps) + zero_point`` as float values 0 to 255, for values that are in steps of their scale already."""
    return _on_levels(steps, (-float(zero_point), _LEVELS - 1.0 - zero_point), (0.0, _LEVELS - 1.0), _LEVELS)


def product(q: Node, layer: IntegerLinear, part: str = "") -> Node:
    """The product of integers; ``part`` tells apart those that make one layer together."""
    name = layer.name + part
    if products_saturate() and layer.overflows_16_bits:
        low = torch.div(layer.weight.int(), 2, rounding_mode="trunc").to(torch.int8)
        scaled = op.add(
            _scaled_product(q, layer.weight - low, layer, name), _scaled_product(q, low, layer, f"{name}/low")
        )
    else:
        scaled = _scaled_product(q, layer.weight, layer, name)
    result = op.add(scaled, floats(layer.offset))
    result.set_friendly_name(f"{name}/bias")  # either name may be the one that the compiled product keeps
    if not layer.correction.any():
        return result
    ones = op.multiply(op.convert(op.constant(np.ones((1, layer.weight.shape[1]), np.int8)), "f32"), _floats_of(1.0))
    total = op.matmul(q, ones, False, True)
    total.set_friendly_name(f"{layer.name}.sum{part}")
    return op.subtract(result, op.multiply(total, floats(layer.combined_scale * layer.correction)))


@functools.cache
def products_saturate() -> bool:
    """Whether this processor's kernels for 8-bit integers lose what does not fit 16 bits; tried on a small product."""
    width = 64
    layer = IntegerLinear(
        name="blocks.0.fc1",
        weight=torch.full((width, width), 127, dtype=torch.int8),
        correction=torch.zeros(width, dtype=torch.long),
        weight_scale=torch.full((width,), 0.5),
        bias=torch.zeros(width),
        activation_scale=torch.tensor(1.0),
        activation_zero_point=torch.tensor(0),
        activation_bits=8,
    )
    x = op.parameter([-1, width], np.float32)
    graph = openvino.Model([_scaled_product(rounded(x, layer), layer.weight, layer, layer.name)], [x])
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([np.full((32, width), 255, np.float32)])[0]
    return bool((found != 0.5 * 255 * 127 * width).any())


def _on_levels(x: Node, given: tuple[float, float], made: tuple[float, float], levels: int) -> Node:
    """``x`` on equal steps from the first to the last of ``given``, which become those of ``made``."""
    return op.fake_quantize(x, *map(_floats_of, (*given, *made)), levels)


def _scaled_product(q: Node, weight: Int8[Tensor, "d_out d_in"], layer: IntegerLinear, name: str) -> Node:
    """``s_x s_w sum_k q_x w``."""
    scaled = op.multiply(op.convert(byte_constant(weight.numpy()), "f32"), floats(layer.combined_scale[:, None]))
    result = op.matmul(q, scaled, False, True)
    result.set_friendly_name(name)
    return result


def floats(values: Float[Tensor, "..."]) -> Node:
    """A constant of float32."""
    return op.constant(values.detach().float().cpu().numpy())


def _floats_of(value: float) -> Node:
    return op.constant(np.float32(value))
