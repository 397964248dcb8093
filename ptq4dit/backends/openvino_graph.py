"""The step of a quantized DiT as an OpenVINO graph whose block linears are products of 8-bit integers.

Written op by op, so nothing is traced and every scale is where OpenVINO's int8 kernels look for it: the input as
unsigned integers ``q_x`` (a `FakeQuantize` whose output range is the integers themselves), weights as signed bytes
times ``s_x s_w`` of their row, and everything that does not depend on the input in the bias (`IntegerLinear`).
Norms, modulation, softmax(q k^T) v and GELU are in float.

A processor without VNNI adds pairs of products in 16 bits and saturates there, which 8-bit weights can reach. Where
that is so (`products_saturate` tries it), such weights are two products, of their halves: exact, at twice the work.

The form matters for speed, and is what OpenVINO 2026.4 fuses: GELU and the next rounding into the product before them,
modulation and rounding into one pass, attention into one kernel. q, k and v are three products of the same integers:
one product and a split would copy each of them.
"""

import functools
from typing import Any

import numpy as np
import openvino
import torch
from jaxtyping import Float, Int8
from numpy.typing import NDArray
from openvino import opset15 as op
from torch import Tensor, nn

from ptq4dit.backends.plan import IntegerLinear, block_linears, integer_linear_of
from ptq4dit.quantized.linear import QuantizedLinear

_LEVELS = 256
Node = Any
"""An output of OpenVINO's graph; its Python bindings have no types."""


def build_graph(twin: Any, *, half_attention: bool = False) -> openvino.Model:
    """The graph of one step.

    Inputs, batch sizes dynamic: ``latents`` ``(n, channels, height, width)``, ``blocks`` ``(6 blocks, n, width)``
    (shift, scale, gate of the attention, then of the MLP, block by block), ``final`` ``(2, n, width)``. Output
    ``sample``.

    Args:
        twin: the quantized ``DiTTransformer2DModel``.
        half_attention: both products of the attention in bf16, whatever the rest is in.

    Raises:
        ValueError: if a layer cannot run on integers; the message names it.
    """
    config = twin.config
    width, side = int(twin.inner_dim), int(config.sample_size)
    count = len(twin.transformer_blocks)
    latents = op.parameter([-1, config.in_channels, side, side], np.float32, name="latents")
    blocks = op.parameter([6 * count, -1, width], np.float32, name="blocks")
    final = op.parameter([2, -1, width], np.float32, name="final")
    rows = _modulations(blocks, 6 * count)
    hidden = _embed(latents, twin)
    for index in range(count):
        hidden = _block(hidden, twin, index, rows[6 * index : 6 * index + 6], half_attention)
    shift, scale = _modulations(final, 2)
    tokens = linear(_norm(hidden, shift, scale, float(twin.norm_out.eps)), "final.linear", twin.proj_out_2)
    sample = _unpatchify(tokens, int(twin.patch_size), int(twin.out_channels), side)
    sample.set_friendly_name("sample")
    return openvino.Model([sample], [latents, blocks, final], "ptq4dit")


def linear(x: Node, name: str, module: nn.Module) -> Node:
    """A linear of the twin: on integers where it is quantized, else in float."""
    if isinstance(module, QuantizedLinear):
        return integer_product(x, integer_linear_of(name, [module]))
    weight, bias = module.weight.detach().flatten(1), module.bias  # type: ignore[operator]
    product = op.matmul(x, _floats(weight), False, True)
    return product if bias is None else op.add(product, _floats(bias.detach()))  # type: ignore[operator]


def integer_product(x: Node, layer: IntegerLinear) -> Node:
    """Round the input to integers and multiply; see `IntegerLinear` for the formula."""
    return _product(_rounded(x, layer), layer)


def _product(q: Node, layer: IntegerLinear, part: str = "") -> Node:
    """The product of integers; ``part`` tells apart those that make one layer together."""
    name = layer.name + part
    if may_overflow(layer) and products_saturate():
        low = torch.div(layer.weight.int(), 2, rounding_mode="trunc").to(torch.int8)
        product = op.add(
            _scaled_product(q, layer.weight - low, layer, name), _scaled_product(q, low, layer, f"{name}/low")
        )
    else:
        product = _scaled_product(q, layer.weight, layer, name)
    result = op.add(product, _floats(layer.offset))
    result.set_friendly_name(f"{name}/bias")  # either name may be the one that the compiled product keeps
    if not layer.correction.any():
        return result
    ones = op.multiply(op.convert(op.constant(np.ones((1, layer.weight.shape[1]), np.int8)), "f32"), _floats_of(1.0))
    total = op.matmul(q, ones, False, True)
    total.set_friendly_name(f"{layer.name}.sum{part}")
    return op.subtract(result, op.multiply(total, _floats(layer.combined_scale * layer.correction)))


def _scaled_product(q: Node, weight: Int8[Tensor, "d_out d_in"], layer: IntegerLinear, name: str) -> Node:
    """``s_x s_w sum_k q_x w``."""
    scaled = op.multiply(op.convert(op.constant(weight.numpy()), "f32"), _floats(layer.combined_scale[:, None]))
    product = op.matmul(q, scaled, False, True)
    product.set_friendly_name(name)
    return product


def may_overflow(layer: IntegerLinear) -> bool:
    """Whether two products of a layer can add up to more than 16 signed bits hold."""
    largest = layer.weight.int().abs().topk(min(2, layer.weight.shape[1]), dim=1).values.sum(dim=1)
    return int(largest.max()) * (2**layer.activation_bits - 1) >= 2**15


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
        activation_scale=1.0,
        activation_zero_point=0,
        activation_bits=8,
    )
    x = op.parameter([-1, width], np.float32)
    product = _scaled_product(_rounded(x, layer), layer.weight, layer, layer.name)
    compiled = openvino.Core().compile_model(openvino.Model([product], [x]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([np.full((32, width), 255, np.float32)])[0]
    return bool((found != 0.5 * 255 * 127 * width).any())


def _rounded(x: Node, layer: IntegerLinear) -> Node:
    """``q_x`` as float values 0 to ``2^bits - 1``; fewer than 8 bits are clamped first, on the same steps."""
    scale, zero_point = np.float32(layer.activation_scale), layer.activation_zero_point
    low = -zero_point * scale
    if layer.activation_bits < 8:
        x = op.clamp(x, float(low), float((2**layer.activation_bits - 1 - zero_point) * scale))
    high = (_LEVELS - 1 - zero_point) * scale
    limits = [_floats_of(float(value)) for value in (low, high, 0, _LEVELS - 1)]
    return op.fake_quantize(x, *limits, _LEVELS)


def _block(hidden: Node, twin: Any, index: int, modulation: list[Node], half_attention: bool) -> Node:
    shift1, factor1, gate1, shift2, factor2, gate2 = modulation
    block, layers = twin.transformer_blocks[index], block_linears(twin, index)
    normed = _norm(hidden, shift1, factor1, float(block.norm1.norm.eps))
    mixed = _attention(normed, layers["qkv"], block.attn1, half_attention)
    hidden = op.add(hidden, op.multiply(integer_product(mixed, layers["proj"]), gate1))
    inner = integer_product(_norm(hidden, shift2, factor2, float(block.norm3.eps)), layers["fc1"])
    inner = op.gelu(inner, {"tanh": "TANH", "none": "ERF"}[block.ff.net[0].approximate])
    return op.add(hidden, op.multiply(integer_product(inner, layers["fc2"]), gate2))


def _attention(x: Node, qkv: IntegerLinear, attention: Any, half: bool) -> Node:
    """``softmax(q k^T scale) v`` for all heads, in float; ``scale`` is folded into q's rows."""
    heads, scale, width = int(attention.heads), float(attention.scale), len(qkv.bias) // 3
    rounded, parts = _rounded(x, qkv), []
    for index, (name, factor) in enumerate((("q", scale), ("k", 1.0), ("v", 1.0))):
        layer = qkv.rows(index * width, (index + 1) * width, factor)
        part = op.reshape(_product(rounded, layer, f"/{name}"), _integers([0, 0, heads, -1]), True)
        part = op.transpose(part, _integers([0, 2, 1, 3]))
        parts.append(op.convert(part, "bf16") if half else part)
    q, k, v = parts
    mixed = op.matmul(op.softmax(op.matmul(q, k, False, True), -1), v, False, False)
    mixed = op.transpose(op.convert(mixed, "f32") if half else mixed, _integers([0, 2, 1, 3]))
    return op.reshape(mixed, _integers([0, 0, -1]), True)


def _norm(x: Node, shift: Node, factor: Node, eps: float) -> Node:
    """``LN(x) factor + shift``."""
    return op.add(op.multiply(op.mvn(x, _integers([2]), True, eps, "INSIDE_SQRT"), factor), shift)


def _modulations(given: Node, parts: int) -> list[Node]:
    """Shift, ``1 + scale`` and gate of each norm, ``(n, 1, width)`` each; the ones are added to all scales at once."""
    ones = np.zeros((parts, 1, 1), np.float32)
    ones[1::3] = 1.0
    outputs = op.split(op.unsqueeze(op.add(given, op.constant(ones)), _integers([2])), op.constant(0), parts).outputs()
    return [op.squeeze(output, _integers([0])) for output in outputs]


def _embed(latents: Node, twin: Any) -> Node:
    """Patches as tokens through the patch embedding, plus their positions."""
    patch, channels = int(twin.patch_size), int(twin.config.in_channels)
    side = int(twin.config.sample_size) // patch
    tiles = op.reshape(latents, _integers([0, channels, side, patch, side, patch]), True)
    tokens = op.transpose(tiles, _integers([0, 2, 4, 1, 3, 5]))
    flat = op.reshape(tokens, _integers([0, side * side, channels * patch * patch]), True)
    embedded = linear(flat, "patch_embed", twin.pos_embed.proj)
    return op.add(embedded, _floats(twin.pos_embed.pos_embed))


def _unpatchify(tokens: Node, patch: int, channels: int, side: int) -> Node:
    tiles = op.reshape(tokens, _integers([0, side // patch, side // patch, patch, patch, channels]), True)
    return op.reshape(op.transpose(tiles, _integers([0, 5, 1, 3, 2, 4])), _integers([0, channels, side, side]), True)


def _floats(values: Float[Tensor, "..."]) -> Node:
    return op.constant(values.detach().float().cpu().numpy())


def _floats_of(value: float) -> Node:
    return op.constant(np.float32(value))


def _integers(values: list[int]) -> NDArray[np.int64] | Node:
    return op.constant(np.array(values, np.int64))
