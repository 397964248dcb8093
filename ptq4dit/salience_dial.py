"""The salience dial: make chosen channels as salient as those of much larger models, without changing the function."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.model.bundle import Dit
from ptq4dit.model.families.absorber import shared_maximum
from ptq4dit.model.layers import balanced_layers
from ptq4dit.paper.reparam import reparameterize


def amplification_factors(
    transformer: nn.Module, strength: float, fraction: float = 0.03, seed: int = 0
) -> dict[str, Float[Tensor, " channel"]]:
    """Factors that raise a random few input channels where something absorbs them: the inverse of folding CSB.

    Args:
        transformer: a float diffusers transformer.
        strength: factor of the chosen channels, at least 1; 1 leaves the model as it is.
        fraction: share of the channels that is chosen in each layer, at least one channel, in (0, 1].
        seed: chooses the channels.

    Returns:
        Layer name -> ``(d_in,)``, ``strength`` on the chosen channels and 1 elsewhere.

    Raises:
        ValueError: for a strength, fraction or seed out of range.
    """
    if not math.isfinite(strength) or strength < 1:
        raise ValueError(f"Expected a finite strength of at least 1 (1 changes nothing), got {strength}.")
    if not 0 < fraction <= 1:
        raise ValueError(f"Expected a fraction of channels in (0, 1], got {fraction}.")
    if seed < 0:
        raise ValueError(f"Expected a seed of at least 0, got {seed}.")
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name, layer in balanced_layers(transformer).items():
        if layer.absorbs_all and layer.tied_to is None:
            chosen = torch.randperm(layer.in_features, generator=generator)
            factor = torch.ones(layer.in_features, dtype=layer.linears[0].weight.dtype)
            factor[chosen[: max(1, round(fraction * layer.in_features))]] = strength
            factors[name] = shared_maximum(layer.absorber, factor)
    return factors


def amplify_salience(dit: Dit, strength: float, fraction: float = 0.03, seed: int = 0) -> Dit:
    """A bundle with the same function whose chosen channels are ``strength`` times as salient.

    Activations of those channels grow by ``strength`` and the weights' columns shrink by it. Results made with such a
    model are to be labelled "salience x strength, function unchanged". `Calibration.rescaled` with
    `amplification_factors` gives its calibration without another run.

    Args:
        dit: a float bundle, left as it is.
        strength, fraction, seed: see `amplification_factors`.
    """
    factors = amplification_factors(dit.transformer, strength, fraction, seed)
    return dit.with_transformer(reparameterize(dit.transformer, factors))


def amplified(dit: Dit, stats: Calibration, strength: float | int) -> tuple[Dit, Calibration]:
    """`amplify_salience` of a bundle, and what calibrating the result would give; both as they are at strength 1.

    Raises:
        ValueError: as `amplification_factors`.
    """
    if strength == 1:
        return dit, stats
    factors = amplification_factors(dit.transformer, float(strength))
    raised = amplify_salience(dit, float(strength))
    return raised, stats.rescaled_for(factors, raised.transformer)
