"""The least that a forward pass can take here: operations over this machine's own peak, bytes over its bandwidth."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_SHAPES = ((1024, 6144, 6144), (2048, 2048, 8192), (512, 1152, 4608))
"""Rows, inputs and outputs of the products by which the peak is found: which is fastest depends on the machine."""
_REPEATS = 7
_BYTES_PER_WEIGHT = {"FP32": 4, "BF16": 2}


@dataclass(frozen=True, kw_only=True)
class Work:
    """Multiply-adds of one forward pass.

    Attributes:
        linears: of the blocks' four linears, patch embedding and final layer: what runs in integers if anything does.
        attention: of the products ``q k^T`` and ``p v``.
        modulation: of embedders and modulation linears, which a sampler needs once per (timestep, class) only.
        weights: number of weights that a forward pass reads, those of the modulation apart.
    """

    linears: int
    attention: int
    modulation: int
    weights: int


def work(about: dict[str, Any], batch: int) -> Work:
    """Count them for a DiT from its sizes (`Subject.about`)."""
    blocks, width, tokens = about["blocks"], about["width"], about["tokens"]
    weights = blocks * 12 * width**2
    return Work(
        linears=weights * tokens * batch,
        attention=2 * blocks * tokens**2 * width * batch,
        modulation=blocks * 6 * width**2 * batch,
        weights=weights,
    )


def floors(about: dict[str, Any], batch: int, label: str, note: str, machine: dict[str, float]) -> dict[str, float]:
    """Milliseconds at the machine's peak and at its memory bandwidth; a model that fits the cache beats the latter.

    Args:
        about: `Subject.about`.
        batch: rows.
        label: ``"FP32"``, ``"BF16"`` or quantized; the last run their linears in int8.
        note: of a quantized contestant, which type the rest has.
        machine: what `measure_machine` found.
    """
    done = work(about, batch)
    kind = {"FP32": "fp32", "BF16": "bf16"}.get(label, "int8")
    rest = kind if kind != "int8" else ("bf16" if "bf16" in note else "fp32")
    operations = done.linears / machine[f"{kind}_macs"] + done.attention / machine[f"{rest}_macs"]
    return {
        "operations_ms": round(1e3 * operations, 3),
        "bytes_ms": round(1e3 * done.weights * _BYTES_PER_WEIGHT.get(label, 1) / machine["bytes_per_s"], 3),
    }


def profile_floors(about: dict[str, Any], batch: int, note: str, machine: dict[str, float]) -> dict[str, float]:
    """Milliseconds at the machine's peak of each kind of node that multiplies (`openvino_profile.profile_step`)."""
    done, width = work(about, batch), about["width"]
    one = about["blocks"] * width**2 * about["tokens"] * batch
    sizes = {"qkv": 3 * one, "proj": one, "fc1": 4 * one, "fc2": 4 * one}
    macs = {f"product {role}": size / machine["int8_macs"] for role, size in sizes.items()}
    half = "bf16" in note
    macs["attention"] = done.attention / machine["bf16_macs" if half else "fp32_macs"]
    return {kind: round(1e3 * seconds, 4) for kind, seconds in macs.items()}


def measure_machine(threads: int) -> dict[str, float]:
    """Multiply-adds per second in fp32, bf16 and int8, the most of a few products; bytes read per second."""
    torch.set_num_threads(threads)
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": None}
    result = {
        f"{kind}_macs": max(_rate(kind, dtype, shape, threads) for shape in _SHAPES) for kind, dtype in kinds.items()
    }
    large = torch.ones(2**27)
    result["bytes_per_s"] = large.numel() * 4 / _best(large.sum)
    return result


def _rate(kind: str, dtype: torch.dtype | None, shape: tuple[int, int, int], threads: int) -> float:
    """Multiply-adds per second of one product, by OpenVINO or torch, whichever is faster."""
    rows, width, outputs = shape
    seconds = _openvino_seconds(kind, shape, threads)
    if dtype is not None:
        a, b = torch.randn(rows, width, dtype=dtype), torch.randn(outputs, width, dtype=dtype)
        seconds = min(seconds, _best(lambda: a @ b.T))
    return rows * width * outputs / seconds


def _openvino_seconds(kind: str, shape: tuple[int, int, int], threads: int) -> float:
    import openvino
    from openvino import opset13 as ops

    rows, width, outputs = shape
    x = ops.parameter([rows, width], np.float32)
    values = np.random.default_rng(0).integers(-127, 128, (outputs, width), dtype=np.int8)
    if kind == "int8":
        low, high = np.float32(-2.0), np.float32(2.0)
        left = ops.fake_quantize(x, low, high, low, high, 256)
        right = ops.multiply(ops.convert(ops.constant(values), "f32"), np.full((outputs, 1), 0.01, np.float32))
    else:
        left, right = x, ops.constant(values.astype(np.float32))
    product = ops.matmul(left, right, False, True)
    graph = openvino.Model([ops.reduce_max(product, np.array([1]), True)], [x], "product")  # a short output
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if kind == "bf16" else "f32", "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(graph, "CPU", hint).create_infer_request()
    given = np.random.default_rng(1).standard_normal((rows, width), np.float32)
    return _best(lambda: request.infer([given]))


def _best(call: Callable[[], Any]) -> float:
    """The shortest of a few calls: a peak is what is possible, so noise only lowers it."""
    call()
    seconds = []
    for _ in range(_REPEATS):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
