"""SmoothQuant: move magnitude from activations to weights by ``max|X_j|^alpha / max|W_j|^(1 - alpha)``.

Simplified: nothing; as in the paper it acts where a normalization can absorb the factors (qkv and fc1). With alpha 1/2
it is CSB with the largest salience over timesteps, without proj.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Job, Method
from ptq4dit.model.bundle import Dit
from ptq4dit.quantized.convert import convert

SMOOTHED_ROLES = ("qkv", "fc1")


def prepare(config: QuantConfig) -> QuantConfig:
    """No CSB; ranges as wanted."""
    return replace(config, csb=False, ssc=False)


def smoothing_factors(stats: Calibration, alpha: float) -> dict[str, Float[Tensor, " channel"]]:
    """``b_x = 1 / s``, ``s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)`` (SmoothQuant eq. 4), over all timesteps.

    Args:
        stats: calibration of the float model.
        alpha: 0 moves everything to the activation, 1 everything to the weight.

    Raises:
        ValueError: for an alpha outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"Expected alpha in [0, 1], got {alpha}. The paper uses 0.5.")
    factors = {}
    for name in stats.layers:
        if name.rsplit(".", 1)[-1] in SMOOTHED_ROLES:
            activation, weight = stats.activation_salience[name].amax(dim=0), stats.weight_salience[name]
            alive = (activation > 0) & (weight > 0)
            factor = torch.where(alive, weight, 1.0) ** (1 - alpha) / torch.where(alive, activation, 1.0) ** alpha
            factors[name] = torch.where(alive, factor, 1.0)
    return factors


def run(job: Job) -> Dit:
    """Fold the factors, then round; reconstruct if asked."""
    alpha = float(job.config.option("alpha", 0.5))
    factors = smoothing_factors(job.stats, alpha)
    return job.reconstructed(convert(job.dit, job.stats, job.config, factors), factors)


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
