"""How fast transformers of other families than the DiT run: torch and OpenVINO in float, and ours on integers.

Models of a real one's width with random weights and few blocks; nothing is drawn, so no pipeline is needed.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino
import torch
from torch import Tensor, nn

from ptq4dit.backends.call import take_apart
from ptq4dit.backends.dispatch import with_backend
from ptq4dit.backends.openvino_linear import products_saturate
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.products import INTEGERS, linear_precisions
from ptq4dit.backends.tracing import trace_graph
from ptq4dit.calibration.watch import watch
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import quantize_transformer
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.speed.interleaved import ratio, summary, time_in_turn
from ptq4dit.storage.markdown import markdown_table

FORMAT = "ptq4dit-speed-family-1"
WIDTH, HEADS, SIDE, TEXT, TEXT_WIDTH = 768, 12, 32, 77, 4096
"""Width, heads, latents' side (256 tokens in patches of 2), text tokens, and values of a text token."""
_BASELINE, _FLOAT = "torch-fp32", "openvino-fp32"
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class FamilySpeed:
    """What is measured.

    Attributes:
        family: a key of `FAMILIES`.
        blocks: of the model.
        batch: rows of a call.
        rounds: timed calls of each contestant, in turn.
        threads: of every runtime.
        seed: of weights and inputs.
    """

    family: str
    blocks: int = 4
    batch: int = 2
    rounds: int = 15
    threads: int = 2
    seed: int = 0


def measure_family(config: FamilySpeed, made: dict[str, Any], progress: Progress = lambda _: None) -> dict[str, Any]:
    """Milliseconds of one call of each contestant, and how far its output is from the float model's.

    Args:
        config: what to measure.
        made: provenance, kept in the result.
        progress: told in words what happens next.

    Returns:
        Plain JSON values: ``made``, ``config``, ``model``, ``processor`` and ``contestants`` by key; ``speedup`` is
        over torch, ``over_openvino`` over OpenVINO in float.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with tempfile.TemporaryDirectory(prefix="ptq4dit-speed-") as scratch:
            return _measured(config, made, progress, Path(scratch))
    finally:
        torch.set_num_threads(threads_before)


def _measured(config: FamilySpeed, made: dict[str, Any], progress: Progress, cache: Path) -> dict[str, Any]:
    progress(f"building {config.family}")
    model, given = random_model(config)
    progress("calibrating")
    with watch(model) as seen, torch.no_grad():
        for step in (900, 500, 100):
            model(**given | {"timestep": torch.full((config.batch,), step)})
    calls: dict[str, Callable[[], Tensor]] = {_BASELINE: lambda: _float_call(model, given)}
    about: dict[str, dict[str, Any]] = {_BASELINE: {"name": "torch fp32 eager", "execution": "float"}}
    progress("OpenVINO in float")
    calls[_FLOAT], about[_FLOAT] = _openvino_float(model, given, config.threads)
    for key, bits, batch in (("ours-w8a8", 8, None), ("ours-w8a8-fixed", 8, config.batch), ("ours-w4a8", 4, None)):
        progress(key)
        options = IntegerOptions(threads=config.threads, precision="f32", batch=batch, cache=cache)
        calls[key], about[key] = _ours(model, seen.calibration(), given, bits, options)
    progress("timing")
    exact, seconds = calls[_BASELINE](), time_in_turn(calls, config.rounds)
    for key, call in calls.items():
        about[key] |= summary(seconds[key]) | ratio(seconds[_BASELINE], seconds[key])
        pairs = zip(seconds[_FLOAT], seconds[key], strict=True)
        about[key]["over_openvino"] = round(statistics.median(slow / fast for slow, fast in pairs), 2)
        about[key]["error"] = float(f"{float((call() - exact).norm() / exact.norm()):.3g}")
    return {
        "format": FORMAT,
        "made": made,
        "config": vars(config),
        "model": {
            "class": type(model).__name__,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "width": WIDTH,
            "tokens": [(SIDE // 2) ** 2, TEXT],
            "weights": "random",
        },
        "processor": {
            "saturates": products_saturate(),
            "meaning": "8-bit weights are two products, of their halves: this processor adds pairs of products in 16 "
            "bits (no VNNI)"
            if products_saturate()
            else "one product for each weight",
        },
        "contestants": about,
    }


def random_model(config: FamilySpeed) -> tuple[nn.Module, dict[str, Any]]:
    """A float model with seeded weights, and the arguments of a call.

    Raises:
        ValueError: for a family that is none of `FAMILIES`.
    """
    if config.family not in FAMILIES:
        raise ValueError(f"Expected a family among {tuple(FAMILIES)}, got {config.family!r}.")
    state = torch.get_rng_state()
    torch.manual_seed(config.seed)
    build, inputs = FAMILIES[config.family]
    model = build(config.blocks).eval()
    given = {
        "hidden_states": torch.randn(config.batch, 4, SIDE, SIDE),
        "encoder_hidden_states": torch.randn(config.batch, TEXT, TEXT_WIDTH),
        "timestep": torch.linspace(900, 100, config.batch).long(),
    }
    given |= inputs(config.batch)
    torch.set_rng_state(state)
    return model, given


def markdown(content: dict[str, Any]) -> str:
    """One row a contestant."""
    head = ("what", "execution", "ms", "quartiles", "times torch", "times OpenVINO fp32", "int8 products", "error")
    lines = []
    for result in content["contestants"].values():
        low, high = result["ms_quartiles"]
        numbers = f"{result['ms']:.1f}", f"{low:.1f} to {high:.1f}", f"{result['speedup']:.2f}"
        rest = f"{result['over_openvino']:.2f}", result.get("products", ""), f"{result['error']:.2g}"
        lines.append((result["name"], result["execution"], *numbers, *rest))
    return markdown_table(head, lines) + f"\n\n{content['processor']['meaning']}\n"


def _sd3(blocks: int) -> nn.Module:
    from diffusers import SD3Transformer2DModel

    sizes = {"num_attention_heads": HEADS, "attention_head_dim": WIDTH // HEADS, "in_channels": 4, "out_channels": 4}
    text = {"joint_attention_dim": TEXT_WIDTH, "caption_projection_dim": WIDTH, "pooled_projection_dim": 2048}
    return SD3Transformer2DModel(**sizes, **text, num_layers=blocks, sample_size=SIDE, pos_embed_max_size=64)


def _pixart(blocks: int) -> nn.Module:
    from diffusers import PixArtTransformer2DModel

    sizes = {"num_attention_heads": HEADS, "attention_head_dim": WIDTH // HEADS, "in_channels": 4}
    text = {"caption_channels": TEXT_WIDTH, "cross_attention_dim": WIDTH, "use_additional_conditions": False}
    return PixArtTransformer2DModel(**sizes, **text, num_layers=blocks, sample_size=SIDE)


FAMILIES: dict[str, tuple[Callable[[int], nn.Module], Callable[[int], dict[str, Any]]]] = {
    "sd3": (_sd3, lambda batch: {"pooled_projections": torch.randn(batch, 2048)}),
    "pixart": (_pixart, lambda batch: {"encoder_attention_mask": torch.ones(batch, TEXT).long()}),
}
"""Name -> what builds a model of so many blocks, and the arguments of its own."""


@torch.no_grad()
def _float_call(model: nn.Module, given: dict[str, Any]) -> Tensor:
    return model(**given, return_dict=False)[0]


def _openvino_float(
    model: nn.Module, given: dict[str, Any], threads: int
) -> tuple[Callable[[], Tensor], dict[str, Any]]:
    """The stock model traced as ours is, compiled for the call's sizes."""
    call = take_apart(model.forward, (), given)
    inputs = call.tensors
    graph, *_ = trace_graph(model, call, inputs)
    graph.reshape({port: list(call.leaves[index].shape) for port, index in zip(graph.inputs, inputs, strict=True)})
    properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    begun = time.perf_counter()
    compiled = openvino.Core().compile_model(graph, "CPU", properties)
    seconds = time.perf_counter() - begun
    arrays = [call.leaves[index].numpy() for index in inputs]
    about = {"name": "OpenVINO fp32, fixed sizes", "execution": "float", "compile_s": round(seconds, 1)}
    return (lambda: torch.from_numpy(compiled(arrays)[0].copy())), about


def _ours(
    model: nn.Module, stats: Any, given: dict[str, Any], bits: int, options: IntegerOptions
) -> tuple[Callable[[], Tensor], dict[str, Any]]:
    config = QuantConfig(weight_bits=bits, weight_symmetric=bits == 8, weight_range="minmax")
    quantized = quantize_transformer(model, stats, config)
    integer = with_backend(quantized, "integer", options)
    begun = time.perf_counter()
    _float_call(integer, given)
    seconds = time.perf_counter() - begun
    found = linear_precisions(integer.step.graphs[0].compiled)
    names = [name for name, module in quantized.named_modules() if isinstance(module, QuantizedLinear)]
    good = sum(found.get(name) in INTEGERS for name in names)
    sizes = "free sizes" if options.batch is None else "fixed sizes"
    about = {"name": f"PTQ4DiT W{bits}A8, {sizes}", "execution": "integer", "compile_s": round(seconds, 1)}
    return (lambda: _float_call(integer, given)), about | {"products": f"{good} of {len(names)}"}
