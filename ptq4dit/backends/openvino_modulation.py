"""A DiT's modulation linears as an OpenVINO graph of integer products: once for every (timestep, class) of a run."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from jaxtyping import Float, Int, Real
from openvino import opset15 as op
from torch import Tensor, nn

from ptq4dit.backends.compiled_graph import CompiledGraph
from ptq4dit.backends.openvino_layers import graph_linear_of, linear, product, rounded
from ptq4dit.backends.token_linear import finds_scales
from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.model.forward import Modulation, equal_embedders
from ptq4dit.quantized.activation import is_static
from ptq4dit.quantized.linear import QuantizedLinear


def has_integer_modulation(twin: Any) -> bool:
    """Whether `build_modulation_graph` expresses a DiT's modulation: all of it on integers, one embedding for all."""
    linears = [block.norm1.linear for block in twin.transformer_blocks]
    return all(_has_one_grid(each) for each in linears) and equal_embedders(twin)


def modulation_names(twin: Any) -> list[str]:
    """Of the products that have to be of integers."""
    return [f"blocks.{index}.modulation" for index in range(len(twin.transformer_blocks))]


def build_modulation_graph(twin: Any) -> openvino.Model:
    """The graph of all blocks' modulations.

    Input ``embedded`` ``(n, width)``: timestep and class, behind the activation. Outputs ``(6 blocks, n, width)`` and
    ``(2, n, width)``, as the graph of the step reads them.

    Args:
        twin: the quantized ``DiTTransformer2DModel``, see `has_integer_modulation`.
    """
    width = int(twin.inner_dim)
    embedded = op.parameter([-1, width], np.float32, name="embedded")
    given: dict[Any, Any] = {}
    parts = []
    for name, block in zip(modulation_names(twin), twin.transformer_blocks, strict=True):
        layer = graph_linear_of(name, [block.norm1.linear])
        if layer.rounding not in given:
            given[layer.rounding] = rounded(embedded, layer, alone=False)
        parts.append(_by_part(product(given[layer.rounding], layer), 6, width))
    final = _by_part(linear(embedded, "final.modulation", twin.proj_out_1), 2, width)
    return openvino.Model([op.concat(parts, 0), final], [embedded], "ptq4dit_modulation")


class OpenVinoModulation(CompiledGraph):
    """The compiled modulation of a DiT, called like `forward.modulate`."""

    def __init__(self, path: Path, properties: dict[str, Any]) -> None:
        super().__init__(path, properties)
        self._width = int(self.compiled.input(0).partial_shape[1].get_length())

    def __call__(self, twin: Any, timesteps: Real[Tensor, " row"], labels: Int[Tensor, " row"]) -> Modulation:
        """All blocks' modulations; the embedding is the twin's own."""
        kind = twin.pos_embed.proj.bias.dtype
        embedded = twin.transformer_blocks[0].norm1.emb(timesteps, labels, hidden_dtype=kind)
        blocks, final = self.run((nn.functional.silu(embedded),))
        return Modulation(
            blocks=_rows_first(blocks, 6).to(kind), final=_rows_first(final, 2)[:, 0].to(kind), timesteps=timesteps
        )


def _has_one_grid(module: nn.Module) -> bool:
    if not isinstance(module, QuantizedLinear) or module.config.weight_bits == FLOAT_BITS or finds_scales(module):
        return False
    config = module.config
    plain = not config.rotation and not config.rank and config.group_size is None
    return plain and is_static(config) and not module.activation_scale.ndim


def _by_part(values: Any, parts: int, width: int) -> Any:
    """``(n, parts width)`` to ``(parts, n, width)``."""
    split = op.reshape(values, op.constant(np.array([0, parts, width], np.int64)), True)
    return op.transpose(split, op.constant(np.array([1, 0, 2], np.int64)))


def _rows_first(values: Float[Tensor, "blocks_parts row width"], parts: int) -> Float[Tensor, "row block part width"]:
    return values.unflatten(0, (-1, parts)).permute(2, 0, 1, 3)
