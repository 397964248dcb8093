"""A quantized DiT as an OpenVINO folder: the integer backend's graph with the conditioning in front of it."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset15 as op

from ptq4dit.backends.openvino_graph import build_graph
from ptq4dit.backends.openvino_layers import linear
from ptq4dit.backends.openvino_linear import Node
from ptq4dit.deploy.sinusoid import sinusoids
from ptq4dit.model.forward import equal_embedders

HINT = {"INFERENCE_PRECISION_HINT": "f32"}
"""What the graph is to be compiled with: a CPU with bf16 products takes bf16 for the rest otherwise."""


def write_openvino(twin: Any, folder: Path, timesteps: int) -> dict[str, Any]:
    """Write ``model.xml`` and ``model.bin``; returns what the manifest says about them.

    Args:
        twin: the quantized ``DiTTransformer2DModel``.
        folder: where to.
        timesteps: the model knows those from 0 up to this one.
    """
    graph = whole_graph(twin, timesteps)
    for name, value in HINT.items():
        graph.set_rt_info(value, ["runtime_options", name])
    openvino.save_model(graph, folder / "model.xml", compress_to_fp16=False)
    return {"openvino": openvino.__version__, "compile_with": HINT, "timesteps": timesteps}


def whole_graph(twin: Any, timesteps: int) -> openvino.Model:
    """The step's graph (`build_graph`), its modulation computed from ``timestep`` and ``class_labels``.

    The sinusoids of every timestep are a table: no timestep is a float anywhere, which bf16 would round to a multiple
    of 4.
    """
    graph = build_graph(twin)
    latents, blocks, final = graph.get_parameters()
    timestep = op.parameter([-1], np.int64, name="timestep")
    labels = op.parameter([-1], np.int64, name="class_labels")
    shared = equal_embedders(twin)
    first = _embedded(twin.transformer_blocks[0], timestep, labels, timesteps)
    width = int(twin.inner_dim)
    modulations = [
        _rows(
            linear(
                first if shared or index == 0 else _embedded(block, timestep, labels, timesteps),
                f"blocks.{index}.modulation",
                block.norm1.linear,
            ),
            6,
            width,
        )
        for index, block in enumerate(twin.transformer_blocks)
    ]
    blocks.output(0).replace(op.concat(modulations, 0).output(0))
    last = linear(first, "final.modulation", twin.proj_out_1)
    final.output(0).replace(_rows(last, 2, width).output(0))
    inputs = [latents, timestep, labels]
    for parameter, name in zip(inputs, ("latents", "timestep", "class_labels"), strict=True):
        parameter.output(0).get_tensor().set_names({name})
    result = openvino.Model(graph.get_results(), inputs, "ptq4dit")
    result.output(0).get_tensor().set_names({"sample"})
    return result


def _embedded(block: Any, timestep: Node, labels: Node, timesteps: int) -> Node:
    """``silu`` of the timestep's and the class's embedding, ``(n, width)``: what every modulation linear reads."""
    embedder = block.norm1.emb
    first, second = embedder.timestep_embedder.linear_1, embedder.timestep_embedder.linear_2
    waves = op.gather(op.constant(sinusoids(embedder, timesteps)), timestep, op.constant(np.int64(0)))
    hidden = _silu(linear(waves, "time_embed.0", first))
    table = op.constant(embedder.class_embedder.embedding_table.weight.detach().float().numpy())
    classes = op.gather(table, labels, op.constant(np.int64(0)))
    return _silu(op.add(linear(hidden, "time_embed.1", second), classes))


def _rows(x: Node, parts: int, width: int) -> Node:
    """``(n, parts width)`` -> ``(parts, n, width)``."""
    apart = op.reshape(x, op.constant(np.array([0, parts, width], np.int64)), True)
    return op.transpose(apart, op.constant(np.array([1, 0, 2], np.int64)))


def _silu(x: Node) -> Node:
    return op.swish(x)
