"""Attention as operations of OpenVINO: a DiT block's whole, and what any other ends in; in float, or on integers.

On integers q, k, v and the softmax's output are rounded to 8 bits as the simulated twin rounds them. OpenVINO 2026.4
multiplies bytes where the grids of q, k and v are symmetric, and floats without a word where they are not; what it made
of the products is read back (`require_integer_attention`).

A processor without VNNI would lose what does not fit 16 bits (`products_saturate`), and neither operand is known
beforehand, to be halved as a weight is: there the same rounded numbers are multiplied in float, and `multiplied` says
so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
from openvino import opset15 as op

from ptq4dit.backends.integer_linear import refusal
from ptq4dit.backends.openvino_layers import GraphLinear, product, rounded
from ptq4dit.backends.openvino_linear import Node, products_saturate
from ptq4dit.backends.products import INTEGERS
from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.model.attention import PARTS
from ptq4dit.quantized.attention import AttentionRounding

_BITS, _LEVELS, _HALF = 8, 256, 128


@dataclass(frozen=True, kw_only=True)
class AttentionGrids:
    """Steps of q, k, v (signed bytes, zero in the middle) and of the softmax's output (from 0)."""

    q: float
    k: float
    v: float
    softmax: float


def attention_grids(name: str, processor: Any) -> AttentionGrids | None:
    """The grids of an attention; None where it is in float.

    Args:
        name: of the attention, for refusals.
        processor: an `AttentionRounding`, or diffusers' processor.

    Raises:
        ValueError: if it is rounded to something that no product of bytes expresses; the message says what to choose.
    """
    if not isinstance(processor, AttentionRounding):
        return None
    bits = {part: processor.configs[part].activation_bits for part in PARTS}
    if set(bits.values()) == {FLOAT_BITS}:
        return None
    if set(bits.values()) != {_BITS}:
        found = ", ".join(f"{part} in {count} bits" for part, count in bits.items())
        raise refusal(name, found, "attention_bits=8 with softmax_bits=8, or 16 for both")
    if processor.softmax_quantizer != "uniform":
        raise refusal(name, f"a softmax rounded by {processor.softmax_quantizer!r}", 'softmax="uniform"')
    if not processor.configs["q"].activation_symmetric:
        wanted = 'activation_symmetric=True for it (overrides={"attention": {"activation_symmetric": True}})'
        raise refusal(name, "q, k and v with a zero point", wanted)
    scales = {part: getattr(processor, f"{part}_scale", None) for part in PARTS}
    if any(scale is None or scale.ndim for scale in scales.values()):
        granularity = processor.configs["q"].activation_granularity
        raise refusal(name, f"activation_granularity={granularity!r}", 'activation_granularity="per_tensor"')
    return AttentionGrids(**{part: float(scale) for part, scale in scales.items() if scale is not None})


def attention(x: Node, qkv: GraphLinear, module: Any, name: str, *, half: bool) -> Node:
    """``softmax(q k^T scale) v`` for all heads; ``scale`` is folded into q's rows, and into q's grid.

    Args:
        x: the input of q, k and v.
        qkv: their rows one after the other.
        module: diffusers' ``Attention``.
        name: of the attention.
        half: both products in bf16, where they are in float.

    Raises:
        ValueError: see `attention_grids`.
    """
    heads, scale, width = int(module.heads), float(module.scale), len(qkv.bias) // 3
    grids = attention_grids(name, module.processor)
    q_x, parts = rounded(x, qkv), []
    for index, (part, factor) in enumerate((("q", scale), ("k", 1.0), ("v", 1.0))):
        layer = qkv.rows(index * width, (index + 1) * width, factor)
        value = product(q_x, layer, f"/{part}")
        if grids is not None:
            value = _on_grid(value, getattr(grids, part) * factor, -_HALF)
        value = op.transpose(op.reshape(value, _integers([0, 0, heads, -1]), True), _integers([0, 2, 1, 3]))
        parts.append(op.convert(value, "bf16") if half and grids is None else value)
    q, k, v = parts
    scores = op.matmul(q, k, False, True)
    scores.set_friendly_name(f"{name}.scores")
    weights = op.softmax(scores, -1)
    if grids is not None:
        weights = _on_grid(weights, grids.softmax, 0)
    mixed = op.matmul(weights, v, False, False)
    mixed.set_friendly_name(f"{name}.mixed")
    mixed = op.convert(mixed, "f32") if half and grids is None else mixed
    return op.reshape(op.transpose(mixed, _integers([0, 2, 1, 3])), _integers([0, 0, -1]), True)


def rounded_product(
    q: Node, k: Node, v: Node, mask: Node | None, *, grids: AttentionGrids, scale: float, name: str
) -> Node:
    """``softmax(q k^T scale + mask) v`` of any attention; ``scale`` is part of what q's grid stands for.

    Args:
        q, k, v: of every head alike.
        mask: added to the scores.
        grids: of the four.
        scale: of the scores.
        name: of the attention.
    """
    scores = op.matmul(_on_grid(q, grids.q, -_HALF, scale), _on_grid(k, grids.k, -_HALF), False, True)
    scores.set_friendly_name(f"{name}.scores")
    weights = op.softmax(scores if mask is None else op.add(scores, mask), -1)
    mixed = op.matmul(_on_grid(weights, grids.softmax, 0), _on_grid(v, grids.v, -_HALF), False, False)
    mixed.set_friendly_name(f"{name}.mixed")
    return mixed


def multiplied() -> str:
    """How this processor multiplies a rounded attention, in words."""
    return "attention rounded, multiplied in float" if products_saturate() else "attention on integers"


def require_integer_attention(compiled: openvino.CompiledModel, names: Iterable[str]) -> None:
    """Refuse a compiled graph in which an attention does not multiply bytes, on a processor that does so rightly.

    Args:
        compiled: the graph.
        names: of the attentions that must.

    Raises:
        ValueError: naming the first such attention.
    """
    if products_saturate():
        return
    found: dict[str, set[str]] = {}
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if "originalLayersNames" in info and info["layerType"].astype(str) in ("MatMul", "Subgraph", "MHA"):
            for each in info["originalLayersNames"].astype(str).split(","):
                found.setdefault(each.split("/")[0], set()).add(info["runtimePrecision"].astype(str))
    for name in names:
        kinds = set().union(*(found.get(f"{name}.{each}", {"no product"}) for each in ("scores", "mixed")))
        if not kinds <= set(INTEGERS):
            version = openvino.__version__.split("-")[0]
            raise ValueError(
                f"Expected {name!r} to multiply 8-bit integers, got {', '.join(sorted(kinds))}: OpenVINO {version} has "
                "no such kernel for this CPU. Choose attention_bits=16 and softmax_bits=16, or "
                'backend="simulated".'
            )


def _on_grid(x: Node, scale: float, first: int, factor: float = 1.0) -> Node:
    """``x`` rounded to 256 steps of a scale, ``first`` the smallest: for products of bytes, if those are right.

    What comes out is that times a factor.
    """
    last = first + _LEVELS - 1
    if products_saturate():  # nothing that OpenVINO would make bytes of
        step, made = (op.constant(np.float32(each)) for each in (scale, scale * factor))
        return op.multiply(op.clamp(op.round(op.divide(x, step), "HALF_TO_EVEN"), float(first), float(last)), made)
    ends = [op.constant(np.float32(end * each)) for each in (scale, scale * factor) for end in (first, last)]
    return op.fake_quantize(x, *ends, _LEVELS)


def _integers(values: list[int]) -> Node:
    return op.constant(np.array(values, np.int64))
