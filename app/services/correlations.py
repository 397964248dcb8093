"""rho and eta of all layers of a model at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.services.cache import shared
from app.services.models import explored
from app.services.sites import places


@dataclass(frozen=True, kw_only=True, eq=False)
class Correlations:
    """layers, in model order, and each one's row on the map; timesteps (t,); rho in -1..1 and eta (layer, t)."""

    layers: tuple[str, ...]
    roles: tuple[str, ...]
    timesteps: np.ndarray
    rho: np.ndarray
    eta: np.ndarray


@shared(maxsize=8)
def correlations(model: str, strength: int) -> Correlations:
    """Spearman's rho between activation and weight salience at each timestep, and what it lets each count (eq. 11)."""
    import torch

    from ptq4dit.paper.ssc import spearman_rho

    stats = explored(model, strength).stats
    layers = tuple(stats.layers)
    rho = torch.stack([spearman_rho(stats.activation_salience[name], stats.weight_salience[name]) for name in layers])
    stand = places(layers)
    return Correlations(
        layers=layers,
        roles=tuple(stand[name].row for name in layers),
        timesteps=np.asarray(stats.timesteps),
        rho=np.asarray(rho),
        eta=np.asarray(torch.softmax(-rho, dim=1)),
    )
