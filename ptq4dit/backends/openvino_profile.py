"""Where the time of a compiled step goes, by OpenVINO's own account of every node."""

import statistics
import time
from collections import defaultdict
from typing import Any

import openvino
from jaxtyping import Float
from torch import Tensor

from ptq4dit.backends.compiled_graph import OpenVinoStep
from ptq4dit.model.forward import Modulation
from ptq4dit.model.layers import ROLES

PRODUCTS = tuple(f"product {role}" for role in ROLES)
"""Kinds of the block linears; that of fc1 has GELU and the rounding of its output inside."""
_WARM = 3
_COPIES = ("Transpose", "Reorder", "Convert", "Split", "Reshape", "Concat")


def profile_step(
    step: OpenVinoStep, latents: Float[Tensor, "row channel height width"], modulation: Modulation, calls: int
) -> dict[str, Any]:
    """Milliseconds of each kind of node in one call; means over some calls.

    Args:
        step: any compiled step; its file is loaded a second time, with counters.
        latents, modulation: what it is called with.
        calls: how many are counted, after some that are not.

    Returns:
        ``call_ms``; ``kinds``: kind -> ``ms`` and ``nodes``; ``outside_ms``: the call without its nodes, which is what
        shapes, threads and Python take.
    """
    counted = OpenVinoStep(step.path, step.properties | {"PERF_COUNT": True})
    for _ in range(_WARM):
        counted(latents, modulation)
    before, seconds = counted.node_ms(), []
    for _ in range(calls):
        begun = time.perf_counter()
        counted(latents, modulation)
        seconds.append(time.perf_counter() - begun)
    after, kinds = counted.node_ms(), _kinds(counted.compiled)
    found: dict[str, list[float]] = defaultdict(list)
    for name, mean in after.items():
        if mean:
            found[kinds[name]].append(((_WARM + calls) * mean - _WARM * before[name]) / calls)
    whole = 1e3 * statistics.mean(seconds)
    ordered = sorted(found.items(), key=lambda item: -sum(item[1]))
    return {
        "call_ms": round(whole, 4),
        "kinds": {kind: {"ms": round(sum(each), 4), "nodes": len(each)} for kind, each in ordered},
        "outside_ms": round(whole - sum(map(sum, found.values())), 4),
    }


def _kinds(compiled: openvino.CompiledModel) -> dict[str, str]:
    """Name of each node that runs -> its kind."""
    kinds: dict[str, str] = defaultdict(str)
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        kind = info["layerType"].astype(str) if "layerType" in info else ""
        names = info["originalLayersNames"].astype(str) if "originalLayersNames" in info else ""
        kinds[node.get_friendly_name()] = _kind(kind, names)
    return kinds


def _kind(layer: str, names: str) -> str:
    """What a node does, from its type and from the nodes of our graph that it was fused from."""
    role = names.split("/")[0].rsplit(".", 1)[-1]
    if layer in ("FullyConnected", "MatMul"):
        return f"product {role}" if role in ROLES and names.startswith("blocks.") else "other products"
    if layer == "Subgraph":  # with a free batch size OpenVINO compiles nothing else into one
        return "attention"
    if layer == "MVN":
        return "norms"
    if layer in _COPIES:
        return "copies"
    return "modulation and rounding" if "FakeQuantize" in names else "gates and residuals"
