"""SmoothQuant: move magnitude from activations to weights by ``max|X_j|^alpha / max|W_j|^(1 - alpha)``.

Simplified: nothing; as in the paper it acts where a normalization can absorb the factors (qkv and fc1). With alpha 1/2
it is CSB with the largest salience over timesteps, without proj.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Job, Method
from ptq4dit.model.bundle import Dit
from ptq4dit.model.families.absorber import Modulation, Rows
from ptq4dit.model.layers import Layer
from ptq4dit.quantized.balance import tied_names


def smoothed(transformer: nn.Module, layers: Mapping[str, Layer]) -> list[str]:
    """The sites that a normalization stands in front of which can absorb: a modulation, or a norm with a gain."""

    def norm(layer: Layer) -> bool:
        if not isinstance(layer.absorber, Rows):
            return isinstance(layer.absorber, Modulation)
        makers = [transformer.get_submodule(path) for path in layer.absorber.paths]
        return not any(isinstance(maker, nn.Linear | nn.Conv2d) for maker in makers)

    return [name for name, layer in layers.items() if norm(layer)]


def prepare(config: QuantConfig) -> QuantConfig:
    """No CSB; ranges as wanted."""
    return replace(config, csb=False, ssc=False)


def smoothing_factors(
    stats: Calibration, names: Iterable[str], alpha: float, tied: Mapping[str, Iterable[str]] | None = None
) -> dict[str, Float[Tensor, " channel"]]:
    """``b_x = 1 / s``, ``s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)`` (SmoothQuant eq. 4), over all timesteps.

    Args:
        stats: calibration of the float model.
        names: the sites that are smoothed.
        alpha: 0 moves everything to the activation, 1 everything to the weight.
        tied: name -> the other sites that must share its factor; the largest values of all count.

    Raises:
        ValueError: for an alpha outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"Expected alpha in [0, 1], got {alpha}. The paper uses 0.5.")
    factors = {}
    for name in names:
        group = (name, *(tied or {}).get(name, ()))
        activation = torch.cat([stats.activation_salience[one] for one in group]).amax(dim=0)
        weight = torch.stack([stats.weight_salience[one] for one in group]).amax(dim=0)
        alive = (activation > 0) & (weight > 0)
        factor = torch.where(alive, weight, 1.0) ** (1 - alpha) / torch.where(alive, activation, 1.0) ** alpha
        factors[name] = torch.where(alive, factor, 1.0)
    return factors


def run(job: Job) -> Dit:
    """Fold the factors, then round; reconstruct if asked."""
    alpha = float(job.config.option("alpha", 0.5))
    tied = {name: tied_names(layer, job.sites) for name, layer in job.sites.items()}
    factors = smoothing_factors(job.stats, smoothed(job.dit.transformer, job.sites), alpha, tied)
    return job.reconstructed(job.converted(factors), factors)


METHOD = Method(
    name="smoothquant",
    title="SmoothQuant",
    citation="Xiao et al. 2023, arXiv 2211.10438",
    summary="Salient activation channels are scaled down and the weight's columns up, by a fixed exponent alpha.",
    inference="nothing",
    prepare=prepare,
    run=run,
    place=30,
    options=("alpha",),
)
