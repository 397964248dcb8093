"""One input channel of one layer at one timestep: what it is, what balancing makes of it, what rounding does to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.balancing import way
from app.services.effect import layer_effect
from app.services.inspection import layer_view
from app.services.sites import require_layer
from app.state import Selection, brief


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel j at a calibrated timestep; saliences are max |value| (eq. 4), steps those of the balanced operands.

    activation, weight: s(X_j), s(W_j), and their ranks, 1 for the most salient of the layer; balanced_activation,
    balanced_weight: the same after balancing; factor: B_X's; rho, rho_balanced: the layer's over all channels (-1..1);
    eta: the timestep's weight (eq. 11); input_step: of the grid of the layer's input, one for all channels, or with a
    scale for every token the median; weight_step: the median over the output channels; both None in float; error: what
    rounding this channel alone does to the layer's output, ||.||^2 relative to all of it, simulated.
    """

    timestep: float
    activation: float
    weight: float
    activation_rank: int
    weight_rank: int
    balanced_activation: float
    balanced_weight: float
    factor: float
    rho: float
    rho_balanced: float
    eta: float
    input_step: float | None
    weight_step: float | None
    error: float


def channel_view(chosen: Selection) -> Channel:
    """The selection's channel. Raises ValueError for a layer that the model lacks, a channel that the layer lacks."""
    require_layer(chosen.model, chosen.layer)
    view = layer_view(chosen.model, chosen.layer, chosen.csb, chosen.ssc, chosen.strength)
    require_channel(chosen.layer, chosen.channel, len(view.weight))
    effect = layer_effect(chosen.model, chosen.layer, *chosen.rounding)
    balancing = way(view.balanced, view.ssc)
    at, j = view.nearest(chosen.timestep), chosen.channel
    return Channel(
        timestep=view.timesteps[at].item(),
        activation=float(view.activation[at, j]),
        weight=float(view.weight[j]),
        activation_rank=_rank(view.activation[at], j),
        weight_rank=_rank(view.weight, j),
        balanced_activation=float(view.balanced_activation[at, j]),
        balanced_weight=float(view.balanced_weight[j]),
        factor=float(view.factors[j]),
        rho=float(view.rho[at]),
        rho_balanced=float(view.rho_balanced[at]),
        eta=float(view.weights[at]),
        input_step=effect.input_steps.get(balancing),
        weight_step=effect.weight_steps.get(balancing),
        error=float(effect.channels[balancing][j]),
    )


def require_channel(layer: str, channel: int, count: int) -> None:
    """Raise ValueError unless the layer, which reads so many input channels, has this one."""
    if not 0 <= channel < count:
        raise ValueError(f"channel: expected 0 to {count - 1} in {layer}; got {brief(channel)}")


def _rank(values: np.ndarray, j: int) -> int:
    """1 for the largest of (channel,)."""
    return 1 + int((values > values[j]).sum())
