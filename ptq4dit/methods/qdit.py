"""Q-DiT: group-wise weights whose group sizes are searched, and activations rounded dynamically, token by token.

Simplified: the paper's evolutionary search scores whole models by FID; here sizes are chosen greedily by each layer's
weighted output error, under the same budget of scales that one group size for all layers would have. The paper ranges
activations for every group of a token, too (``QuantConfig.activation_group_size``).
"""

import math
from dataclasses import replace

import torch

from ptq4dit.config.quantization import LayerConfig, Override, QuantConfig
from ptq4dit.methods.method import Job, Method
from ptq4dit.model.bundle import Dit
from ptq4dit.model.layers import Layer
from ptq4dit.model.streamed import weights
from ptq4dit.quantized.weight import expand_weight, quantize_weight

_CANDIDATES = (32, 48, 64, 96, 128, 192, 256, 384)


def prepare(config: QuantConfig) -> QuantConfig:
    """Dynamic ranges for every token."""
    return replace(config, csb=False, ssc=False, activation_granularity="per_token")


@torch.no_grad()
def searched_groups(job: Job, budget_size: int) -> dict[str, int]:
    """Layer -> group size, with about as many scales in all as ``budget_size`` in every layer would need.

    Every layer starts with one group a row; the layer whose next smaller size removes most error for each added scale
    is refined until the budget is spent. Error: ``||X (W - Q(W))^T||^2`` over the kept rows.
    """
    errors: dict[str, dict[int, tuple[float, int]]] = {}
    layers = job.sites
    for name, layer in layers.items():
        rows = job.stats.samples[name].float().flatten(0, 1)
        sizes = [size for size in _CANDIDATES if layer.in_features % size == 0 and size < layer.in_features]
        errors[name] = {
            size: _error(layer, rows, replace(job.settings(name), group_size=size))
            for size in (*sizes, layer.in_features)
        }
    chosen = {name: max(sizes) for name, sizes in errors.items()}
    budget = sum(
        linear.weight.shape[0] * math.ceil(layer.in_features / budget_size)
        for layer in layers.values()
        for linear in layer.linears
    )
    while True:
        used = sum(errors[name][size][1] for name, size in chosen.items())
        steps = []
        for name, size in chosen.items():
            for smaller in (s for s in errors[name] if s < size):
                added = errors[name][smaller][1] - errors[name][size][1]
                if added and used + added <= budget:
                    steps.append(((errors[name][size][0] - errors[name][smaller][0]) / added, name, smaller))
        if not steps or max(steps)[0] <= 0:
            return chosen
        _, name, size = max(steps)
        chosen[name] = size


def _error(layer: Layer, rows: torch.Tensor, config: LayerConfig) -> tuple[float, int]:
    """Squared output error of rounding the weights, and the number of scales."""
    if config.weight_bits == 16:
        return 0.0, 0
    with weights(*layer.linears):
        weight = torch.cat([linear.weight.detach().cpu().float().flatten(1) for linear in layer.linears])
    integers, scale, zero_point = quantize_weight(weight, config)
    return float((rows @ (expand_weight(integers, scale, zero_point) - weight).T).square().sum()), scale.numel()


def run(job: Job) -> Dit:
    """Search group sizes, then round."""
    budget = int(job.config.option("budget_size", 64))
    if budget < 1:
        raise ValueError(f"Expected a budget_size of at least 1 channel for each scale, got {budget}.")
    sizes = searched_groups(job, budget)
    overrides = tuple(Override(pattern=name, group_size=size) for name, size in sizes.items())
    return job.reconstructed(job.converted(config=replace(job.config, overrides=job.config.overrides + overrides)))


METHOD = Method(
    name="qdit",
    title="Q-DiT",
    citation="Chen et al. 2024, arXiv 2406.17343",
    summary="Weights have a scale for every group of channels, its size searched; activations are ranged per token.",
    inference="ranges found for every token, and a scale for every group inside the products",
    prepare=prepare,
    run=run,
    place=70,
    options=("budget_size",),
)
