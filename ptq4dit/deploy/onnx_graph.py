"""A quantized DiT in ONNX's QDQ form: ``DequantizeLinear(QuantizeLinear(x))`` times ``DequantizeLinear(weight)``.

Written node by node; scales, zero points and integers are those of `IntegerLinear`. Norms, modulation, attention's
products and GELU are float32.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn

from ptq4dit.backends.dit_layers import block_linears
from ptq4dit.backends.integer_linear import IntegerLinear, integer_linear_of, require_one_grid
from ptq4dit.deploy.onnx_writer import OPSET, OnnxWriter, Port
from ptq4dit.deploy.sinusoid import frequencies
from ptq4dit.model.forward import equal_embedders
from ptq4dit.quantized.linear import QuantizedLinear


def write_onnx(twin: Any, folder: Path, *, pack_4_bits: bool) -> dict[str, Any]:
    """Write ``model.onnx``; returns what the manifest says about it.

    Args:
        twin: the quantized ``DiTTransformer2DModel``.
        folder: where to.
        pack_4_bits: weights of up to 4 bits as UINT4.
    """
    graph = _Graph(twin, pack_4_bits)
    graph.build()
    side, channels = int(twin.config.sample_size), int(twin.config.in_channels)
    integer: Port = (TensorProto.INT64, ["n"])
    inputs: dict[str, Port] = {
        "latents": (TensorProto.FLOAT, ["n", channels, side, side]),
        "timestep": integer,
        "class_labels": integer,
    }
    outputs: dict[str, Port] = {"sample": (TensorProto.FLOAT, ["n", int(twin.out_channels), side, side])}
    graph.writer.save(folder / "model.onnx", inputs, outputs)
    return {"opset": OPSET, "onnx": onnx.__version__, "weights_of_4_bits": "uint4" if pack_4_bits else "int8"}


class _Graph:
    """The DiT, part by part; every method adds nodes and returns the name of its result."""

    def __init__(self, twin: Any, pack_4_bits: bool) -> None:
        self.twin, self.pack_4_bits, self.writer = twin, pack_4_bits, OnnxWriter()
        self.width, self.side = int(twin.inner_dim), int(twin.config.sample_size) // int(twin.patch_size)

    def build(self) -> None:
        """All of it, from the three inputs to ``sample``."""
        blocks, shared = self.twin.transformer_blocks, equal_embedders(self.twin)
        first, hidden = self._condition(blocks[0]), self._embed()
        for index, block in enumerate(blocks):
            condition = first if shared or index == 0 else self._condition(block)
            rows = self._modulation(condition, f"blocks.{index}.modulation", block.norm1.linear, 6)
            hidden = self._block(hidden, block, block_linears(self.twin, index), rows)
        shift, scale = self._modulation(first, "final.modulation", self.twin.proj_out_1, 2)
        normed = self._norm(hidden, shift, scale, float(self.twin.norm_out.eps))
        self._unpatchify(self._linear(normed, "final.linear", self.twin.proj_out_2))

    def _condition(self, block: Any) -> str:
        """``silu`` of the embedding of timestep and class, ``(n, width)``."""
        add, embedder = self.writer.add, block.norm1.emb
        times = add("Unsqueeze", add("Cast", "timestep", to=TensorProto.FLOAT), self._integers([1]))
        angles = add("Mul", times, self.writer.constant(frequencies(embedder)[None], "frequencies"))
        waves = add("Concat", add("Cos", angles), add("Sin", angles), axis=1)
        hidden = self._silu(self._linear(waves, "time_embed.0", embedder.timestep_embedder.linear_1))
        time = self._linear(hidden, "time_embed.1", embedder.timestep_embedder.linear_2)
        table = self._floats(embedder.class_embedder.embedding_table.weight, "classes")
        return self._silu(add("Add", time, add("Gather", table, "class_labels", axis=0)))

    def _modulation(self, condition: str, name: str, linear: nn.Module, parts: int) -> list[str]:
        """``parts`` tensors ``(n, 1, width)``."""
        rows = self.writer.add("Unsqueeze", self._linear(condition, name, linear), self._integers([1]))
        return self.writer.add_many("Split", rows, outputs=parts, axis=2, num_outputs=parts)

    def _block(self, hidden: str, block: Any, layers: dict[str, IntegerLinear], rows: list[str]) -> str:
        shift1, scale1, gate1, shift2, scale2, gate2 = rows
        add = self.writer.add
        qkv = self._integer_linear(self._norm(hidden, shift1, scale1, float(block.norm1.norm.eps)), layers["qkv"])
        mixed = self._integer_linear(self._attention(qkv, block.attn1), layers["proj"])
        hidden = add("Add", hidden, add("Mul", mixed, gate1))
        normed = self._norm(hidden, shift2, scale2, float(block.norm3.eps), block.norm3)
        inner = self._integer_linear(normed, layers["fc1"])
        inner = add("Gelu", inner, approximate=block.ff.net[0].approximate)
        return add("Add", hidden, add("Mul", self._integer_linear(inner, layers["fc2"]), gate2))

    def _attention(self, qkv: str, attention: Any) -> str:
        """``softmax(q k^T scale) v`` for all heads."""
        add, heads = self.writer.add, int(attention.heads)
        apart = add("Reshape", qkv, self._integers([0, 0, 3, heads, self.width // heads]))
        q, k, v = self.writer.add_many(
            "Split", add("Transpose", apart, perm=[2, 0, 3, 1, 4]), outputs=3, axis=0, num_outputs=3
        )
        q, k, v = (add("Squeeze", part, self._integers([0])) for part in (q, k, v))
        scaled = add("Mul", q, self.writer.constant(np.float32(attention.scale)))
        weights = add("Softmax", add("MatMul", scaled, add("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
        mixed = add("Transpose", add("MatMul", weights, v), perm=[0, 2, 1, 3])
        return add("Reshape", mixed, self._integers([0, 0, self.width]))

    def _norm(self, x: str, shift: str, scale: str, eps: float, norm: Any = None) -> str:
        """``LN(x) (1 + scale) + shift``; ``norm`` may have a gain and a bias of its own."""
        add, ones = self.writer.add, self.writer.constant(np.ones(self.width, np.float32), "ones")
        gain, bias = (getattr(norm, name, None) for name in ("weight", "bias"))
        own = [] if bias is None else [self._floats(bias, "norm.bias")]
        gained = ones if gain is None else self._floats(gain, "norm.weight")
        normed = add("LayerNormalization", x, gained, *own, axis=-1, epsilon=eps)
        factor = add("Add", scale, self.writer.constant(np.float32(1)))
        return add("Add", add("Mul", normed, factor), shift)

    def _embed(self) -> str:
        """Patches as tokens through the patch embedding, plus their positions."""
        patch, channels, side = int(self.twin.patch_size), int(self.twin.config.in_channels), self.side
        tiles = self.writer.add("Reshape", "latents", self._integers([0, channels, side, patch, side, patch]))
        tokens = self.writer.add("Transpose", tiles, perm=[0, 2, 4, 1, 3, 5])
        flat = self.writer.add("Reshape", tokens, self._integers([0, side * side, channels * patch * patch]))
        embedded = self._linear(flat, "patch_embed", self.twin.pos_embed.proj)
        return self.writer.add("Add", embedded, self._floats(self.twin.pos_embed.pos_embed, "positions"))

    def _unpatchify(self, tokens: str) -> None:
        patch, channels, side = int(self.twin.patch_size), int(self.twin.out_channels), self.side
        tiles = self.writer.add("Reshape", tokens, self._integers([0, side, side, patch, patch, channels]))
        rows = self.writer.add("Transpose", tiles, perm=[0, 5, 1, 3, 2, 4])
        shape = self._integers([0, channels, side * patch, side * patch])
        self.writer.add("Reshape", rows, shape, name="sample")

    def _linear(self, x: str, name: str, linear: nn.Module) -> str:
        """A linear of the twin, or a convolution on flattened patches: quantized or float."""
        if isinstance(linear, QuantizedLinear):
            return self._integer_linear(x, require_one_grid(integer_linear_of(name, [linear])))
        weight, bias = linear.weight, linear.bias
        assert isinstance(weight, Tensor)
        product = self.writer.add("MatMul", x, self._floats(weight.detach().flatten(1).T, name))
        return product if bias is None else self.writer.add("Add", product, self._floats(bias, f"{name}.bias"))  # type: ignore[arg-type]

    def _integer_linear(self, x: str, layer: IntegerLinear) -> str:
        """Both operands quantized and dequantized with the layer's scales and zero points."""
        add, constant = self.writer.add, self.writer.constant
        scale, zero_point = np.float32(layer.grid[0]), np.uint8(layer.grid[1])
        if layer.input_factor is not None:
            x = add("Mul", x, self._floats(layer.input_factor, f"{layer.name}.factor"))
        if layer.activation_bits < 8:
            lowest, highest = -layer.grid[1], 2**layer.activation_bits - 1 - layer.grid[1]
            x = add("Clip", x, constant(np.float32(lowest * scale)), constant(np.float32(highest * scale)))
        grid = (constant(scale), constant(zero_point))
        rounded = add("DequantizeLinear", add("QuantizeLinear", x, *grid), *grid)
        product = add("MatMul", rounded, self._dequantized(layer), name=layer.name)
        return add("Add", product, self._floats(layer.bias, f"{layer.name}.bias"))

    def _dequantized(self, layer: IntegerLinear) -> str:
        """The weight ``(d_in, d_out)`` from its integers, one scale and zero point for each column."""
        weight, scale = layer.weight.T.contiguous(), self._floats(layer.weight_scale, f"{layer.name}.scale")
        name = f"{layer.name}.weight"
        low, high = layer.weight.amin(1), layer.weight.amax(1)
        if self.pack_4_bits and bool((high.short() - low.short() <= 15).all()):
            lowest = low.clamp(max=0).clamp(min=-15)
            q = self.writer.uint4((weight - lowest).to(torch.uint8), name)
            zero_point = self.writer.uint4((-lowest).to(torch.uint8)[None], f"{name}.zero")
            self.writer.initializers[-1].dims[:] = [len(lowest)]
        else:
            q = self.writer.constant(weight.numpy(), name)
            zero_point = self.writer.constant(layer.correction.to(torch.int8).numpy(), f"{name}.zero")
        return self.writer.add("DequantizeLinear", q, scale, zero_point, axis=1)

    def _silu(self, x: str) -> str:
        return self.writer.add("Mul", x, self.writer.add("Sigmoid", x))

    def _floats(self, values: Tensor, name: str) -> str:
        return self.writer.constant(values.detach().float().cpu().numpy(), name)

    def _integers(self, values: list[int]) -> str:
        return self.writer.constant(np.array(values, np.int64))
