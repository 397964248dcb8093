"""The step of a quantized DiT as an OpenVINO graph whose block linears are products of 8-bit integers.

Written op by op, so nothing is traced: the linears as in `openvino_linear`, attention as in `openvino_attention`;
norms, modulation and GELU in float.

The form matters for speed, and is what OpenVINO 2026.4 fuses: GELU and the next rounding into the product before them,
modulation and rounding into one pass, attention into one kernel. q, k and v are three products of the same integers:
one product and a split would copy each of them.
"""

import functools
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset15 as op

from ptq4dit.backends.dit_layers import block_linears
from ptq4dit.backends.openvino_attention import attention
from ptq4dit.backends.openvino_layers import GraphLinear, graph_linear_of, layer_product, linear
from ptq4dit.backends.openvino_linear import Node, floats


def build_graph(twin: Any, *, half_attention: bool = False, native: bool | None = None) -> openvino.Model:
    """The graph of one step.

    Inputs, batch sizes dynamic: ``latents`` ``(n, channels, height, width)``, ``blocks`` ``(6 blocks, n, width)``
    (shift, scale, gate of the attention, then of the MLP, block by block), ``final`` ``(2, n, width)``. Output
    ``sample``.

    Args:
        twin: the quantized ``DiTTransformer2DModel``.
        half_attention: both products of an attention in float in bf16, whatever the rest is in.
        native: how inputs whose scales are found at run time are rounded, see `graph_linear_of`; None to refuse such.

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
    hidden = _embed(latents, twin, native)
    describe = functools.partial(graph_linear_of, native=native)
    for index in range(count):
        layers = block_linears(twin, index, describe)
        hidden = _block(hidden, twin, index, layers, rows[6 * index : 6 * index + 6], half_attention)
    shift, scale = _modulations(final, 2)
    normed = _norm(hidden, shift, scale, float(twin.norm_out.eps))
    tokens = linear(normed, "final.linear", twin.proj_out_2, native)
    sample = _unpatchify(tokens, int(twin.patch_size), int(twin.out_channels), side)
    sample.set_friendly_name("sample")
    return openvino.Model([sample], [latents, blocks, final], "ptq4dit")


def _block(
    hidden: Node, twin: Any, index: int, layers: dict[str, GraphLinear], modulation: list[Node], half_attention: bool
) -> Node:
    shift1, factor1, gate1, shift2, factor2, gate2 = modulation
    block = twin.transformer_blocks[index]
    normed = _norm(hidden, shift1, factor1, float(block.norm1.norm.eps))
    mixed = attention(normed, layers["qkv"], block.attn1, f"blocks.{index}.attention", half=half_attention)
    hidden = op.add(hidden, op.multiply(layer_product(mixed, layers["proj"]), gate1))
    inner = layer_product(_norm(hidden, shift2, factor2, float(block.norm3.eps), block.norm3), layers["fc1"])
    inner = op.gelu(inner, {"tanh": "TANH", "none": "ERF"}[block.ff.net[0].approximate])
    return op.add(hidden, op.multiply(layer_product(inner, layers["fc2"]), gate2))


def _norm(x: Node, shift: Node, factor: Node, eps: float, norm: Any = None) -> Node:
    """``LN(x) factor + shift``; ``norm`` may have a gain and a bias of its own."""
    gain, bias = (getattr(norm, name, None) for name in ("weight", "bias"))
    if bias is not None:
        shift = op.add(op.multiply(factor, floats(bias)), shift)
    if gain is not None:
        factor = op.multiply(factor, floats(gain))
    return op.add(op.multiply(op.mvn(x, _integers([2]), True, eps, "INSIDE_SQRT"), factor), shift)


def _modulations(given: Node, parts: int) -> list[Node]:
    """Shift, ``1 + scale`` and gate of each norm, ``(n, 1, width)`` each; the ones are added to all scales at once."""
    ones = np.zeros((parts, 1, 1), np.float32)
    ones[1::3] = 1.0
    outputs = op.split(op.unsqueeze(op.add(given, op.constant(ones)), _integers([2])), op.constant(0), parts).outputs()
    return [op.squeeze(output, _integers([0])) for output in outputs]


def _embed(latents: Node, twin: Any, native: bool | None) -> Node:
    """Patches as tokens through the patch embedding, plus their positions."""
    patch, channels = int(twin.patch_size), int(twin.config.in_channels)
    side = int(twin.config.sample_size) // patch
    tiles = op.reshape(latents, _integers([0, channels, side, patch, side, patch]), True)
    tokens = op.transpose(tiles, _integers([0, 2, 4, 1, 3, 5]))
    flat = op.reshape(tokens, _integers([0, side * side, channels * patch * patch]), True)
    embedded = linear(flat, "patch_embed", twin.pos_embed.proj, native)
    return op.add(embedded, floats(twin.pos_embed.pos_embed))


def _unpatchify(tokens: Node, patch: int, channels: int, side: int) -> Node:
    tiles = op.reshape(tokens, _integers([0, side // patch, side // patch, patch, patch, channels]), True)
    return op.reshape(op.transpose(tiles, _integers([0, 5, 1, 3, 2, 4])), _integers([0, channels, side, side]), True)


def _integers(values: list[int]) -> NDArray[np.int64] | Node:
    return op.constant(np.array(values, np.int64))
