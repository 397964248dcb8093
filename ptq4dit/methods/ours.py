"""Ours: PTQ4DiT's balancing; integers in closed form, polished by AdaRound, from many images; ranges end by end.

At 4-bit weights nothing is added to the work of a sampling step. What differs from PTQ4DiT as published:

- The rounding is found in closed form (GPTQ's columns on a least squares target). From those integers AdaRound starts
  at a high rate, for 500 steps, or 1,500 where coarser activations leave more to learn: it sees the whole block, where
  the closed form sees one layer.
- It learns from eight times as many images as the paper, each at a few of its timesteps: with few it overfits.
- The upper and the lower end of an input's static range are searched one by one, by the error of the layer's output:
  after GELU nearly all of the range lies above zero, and clipping it must not clip what lies below.
- With 8-bit activations: a sampler with classifier-free guidance uses ``g e_class - (g - 1) e_null``. What the two
  halves' errors have in common counts once there, what tells them apart ``g`` times. Closed form and AdaRound minimize
  the error of that combination beside the error of each half (`ptq4dit.reconstruction.data.BlockData.views`).
- With fewer bits for the activations, whose rounding the combination would amplify, the halves' own errors are
  minimized. The range stays one for all timesteps, so that the integer backends can run it.

That is for weights of up to 4 bits, whose rounding is most of the error. With more bits
it is the activations' static range that limits: there the balancing exponent and the way timesteps are aggregated are
searched layer by layer (after SmoothQuant), before the closed form of the other methods; the channels that come from a
modulation are shifted to the middle of their ranges (after RepQ-ViT), which modulation and bias absorb; and fc2 is
balanced, too, by a scale for every channel in the rounding of its input (``QuantConfig.balance_inputs``).
``assets/recipes/ours_parts.py`` measures what each part brings.

With scales found for every token (``activation_granularity="per_token"``, whole or in groups of channels) no range is
learned, and the closed form ends it; AdaRound follows where ``reconstruction`` asks for steps. The option ``search``
(1 or 0) chooses between the search and CSB with SSC whatever the bits.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import FLOAT_BITS, LayerConfig, QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.methods.method import Job, Method
from ptq4dit.methods.shifting import run_shifted, shiftable
from ptq4dit.model.bundle import Dit
from ptq4dit.model.families.absorber import shared_maximum
from ptq4dit.model.layers import Layer, balanced_layers
from ptq4dit.model.streamed import weights
from ptq4dit.numerics.affine import affine_from_range, fake_quantize
from ptq4dit.quantized.activation import activation_spec, is_static, round_dynamic
from ptq4dit.quantized.balance import activation_salience, model_factors, tied_names
from ptq4dit.quantized.ranges import static_range
from ptq4dit.quantized.weight import expand_weight, quantize_weight
from ptq4dit.sharing import shared

ALPHAS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
"""Exponents tried; 0.5 is CSB, more moves more of the activation's salience into the weight."""
WEIGHT_SHARE = 0.1
"""What closed-form rounding leaves of the squared error that rounding a weight to nearest makes, about."""
RECONSTRUCTION = ReconstructionConfig(
    objective="guided",
    steps=500,
    activation_ends=True,
    activation_learning_rate=4e-4,
    held_out=0.0,
    images=256,
    sampling_steps=25,
    samples=4096,
    tokens=2**18,
)
"""For what guidance makes of the error: the closed form, then AdaRound, from many images at some of their timesteps.

For a model of DiT-XL/2's size give a smaller one: 256 images take hours on a CPU, and 4,096 samples of a block 14 GB.
"""
COARSE_RECONSTRUCTION = replace(RECONSTRUCTION, objective="samples", steps=1500, activation_learning_rate=1e-3)
"""With fewer than 8 bits for the activations: each half's own error, and three times the steps."""
CLOSED = ReconstructionConfig(sampling_steps=25, timesteps=10)
"""Behind a search, and with scales for every token: the closed form of the other methods."""


def searches(config: QuantConfig) -> bool:
    """Whether balancing exponents are searched, instead of CSB with SSC: the option ``search``, 1 or 0.

    By itself where weights have more than 4 bits.
    """
    return bool(config.option("search", config.weight_bits > 4))


def prepare(config: QuantConfig) -> QuantConfig:
    """PTQ4DiT's balancing with our reconstruction, or a search; another reconstruction may be wanted."""
    if searches(config):
        chosen = config.reconstruction or CLOSED
        searched = replace(config, csb=False, ssc=False, balance_inputs=True, weight_range="mse")
        return replace(searched, activation_range="minmax", reconstruction=chosen)
    learned = config.reconstruction or reconstruction_for(config)
    return replace(config, csb=True, ssc=True, weight_range="mse", reconstruction=learned)


def reconstruction_for(config: QuantConfig) -> ReconstructionConfig:
    """The reconstruction of these bits: guided, unless the activations' rounding would be amplified too much."""
    if config.activation_granularity == "per_token":
        return CLOSED
    return RECONSTRUCTION if config.activation_bits >= 8 else COARSE_RECONSTRUCTION


def candidates(stats: Calibration, layer: Layer, tied: Sequence[str] = ()) -> list[Float[Tensor, " channel"]]:
    """Factors ``b_x`` to choose from: none, and ``s(W)^(1-alpha) / s(X)^alpha`` for each alpha and aggregation.

    Each is scaled to a geometric mean of 1, which changes nothing but keeps the numbers tame.
    """
    names = (layer.name, *tied)
    weight = shared_maximum(layer.absorber, torch.stack([stats.weight_salience[name] for name in names]).amax(dim=0))
    result = [torch.ones_like(weight)]
    for way in ("per_timestep", "max"):
        salience = shared_maximum(layer.absorber, activation_salience(stats, layer.name, way, tied))
        alive = (salience > 0) & (weight > 0)
        for alpha in ALPHAS:
            log = (1 - alpha) * weight.clamp(min=1e-30).log() - alpha * salience.clamp(min=1e-30).log()
            result.append(torch.where(alive, (log - log[alive].mean()).exp(), 1.0) if alive.any() else result[0])
    return result


@torch.no_grad()
def searched_factor(
    layer: Layer, stats: Calibration, config: LayerConfig, tied: Sequence[Layer] = ()
) -> Float[Tensor, " channel"]:
    """The candidate with the least rounding error of the layer's output over its kept rows.

    ``||(Q(X b) - X b) (W / b)^T||^2 + k ||X b (Q(W / b) - W / b)^T||^2``: the activation's error stays, of the weight's
    error closed-form rounding leaves the share ``k`` (`WEIGHT_SHARE`). Errors of tied sites, which share the factor,
    are added.
    """
    best, least = None, float("inf")
    for factor in candidates(stats, layer, [other.name for other in tied]):
        error = sum(_rounding_error(site, stats, config, factor) for site in (layer, *tied))
        if error < least:
            best, least = factor, error
    assert best is not None
    return best


def _rounding_error(layer: Layer, stats: Calibration, config: LayerConfig, factor: Tensor) -> float:
    with weights(*layer.linears):
        weight = torch.cat([linear.weight.detach().cpu().float().flatten(1) for linear in layer.linears])
    low, high = stats.activation_min[layer.name] * factor, stats.activation_max[layer.name] * factor
    inputs, scaled = stats.samples[layer.name].float() * factor, weight / factor
    error = float(((_round_rows(inputs, low, high, config) - inputs) @ scaled.T).square().sum())
    if config.weight_bits == FLOAT_BITS:
        return error
    wrong = expand_weight(*quantize_weight(scaled, config)) - scaled
    return error + WEIGHT_SHARE * float((inputs @ wrong.T).square().sum())


def middles(transformer: nn.Module, stats: Calibration) -> dict[str, Float[Tensor, " channel"]]:
    """Minus the middle of every channel's range over all timesteps, where it can be shifted: what centers it."""
    names = shiftable(balanced_layers(transformer))
    ends = {name: (stats.activation_min[name].amin(0), stats.activation_max[name].amax(0)) for name in names}
    return {name: -(low + high) / 2 for name, (low, high) in ends.items()}


def run(job: Job) -> Dit:
    """Balance or search factors, fold, round, reconstruct."""
    if not searches(job.config):
        factors = model_factors(job.stats, job.sites, job.config)
        return job.reconstructed(job.converted(factors), factors)

    def balance(transformer: nn.Module, stats: Calibration) -> dict[str, Tensor]:
        layers, factors = balanced_layers(transformer), dict[str, Tensor]()

        def searched(name: str) -> tuple[Tensor]:
            job.check()
            tied = [layers[other] for other in tied_names(layers[name], layers)]
            return (searched_factor(layers[name], stats, job.settings(name), tied),)

        free = [name for name, layer in layers.items() if layer.tied_to is None]
        for name, (factor,) in zip(free, shared(free, searched), strict=True):
            factors |= dict.fromkeys((name, *tied_names(layers[name], layers)), factor)
        return {name: factors[name] for name in layers}

    return run_shifted(job, middles(job.dit.transformer, job.stats), balance)


def _round_rows(rows: Tensor, low: Tensor, high: Tensor, config: LayerConfig) -> Tensor:
    if config.activation_bits == FLOAT_BITS:
        return rows
    if not is_static(config):
        return round_dynamic(rows, config)
    scale, zero_point = affine_from_range(*static_range(low, high, rows, config), activation_spec(config))
    return fake_quantize(rows, scale, zero_point, activation_spec(config))


METHOD = Method(
    name="ours",
    title="Ours",
    citation="this project",
    summary="PTQ4DiT's balancing; integers in closed form, then a few steps of AdaRound, from many images.",
    inference="nothing; above 4-bit weights a scale for every channel of fc2's input instead of one",
    prepare=prepare,
    run=run,
    place=130,
    learns="own",
    options=("search",),
    balances_inputs=True,
)
