"""Look-ups for the Inspect tab: one layer's salience, correlation and error, and one number a layer for the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.balancing import WAYS
from app.services.cache import shared
from app.services.effect import LayerErrors, layer_effect
from app.services.models import explored
from app.services.rounding import stored_errors
from app.services.sites import site, sites
from app.state import brief

MEASURES = {
    "activation": "activation salience, max / median",
    "weight": "weight salience, max / median",
    "rho": "mean rho over timesteps",
    "none": "error, no balancing (%)",
    "csb": "error, CSB (%)",
    "csb+ssc": "error, CSB + SSC (%)",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerView:
    """One layer before and after balancing. Arrays are numpy; t counts the calibrated timesteps.

    timesteps (t,); activation, balanced_activation (t, channel); weight, balanced_weight (channel,); rho, rho_balanced
    (t,); weights (t,), eq. 11 with SSC, all on the middle timestep without; factors (channel,), the diagonal of B_X.
    Where nothing is balanced (csb off, or a layer that cannot be) the balanced arrays equal the others and `balanced`
    is False.
    """

    layer: str
    role: str
    csb: bool
    ssc: bool
    strength: int
    balanced: bool
    timesteps: np.ndarray
    activation: np.ndarray
    weight: np.ndarray
    balanced_activation: np.ndarray
    balanced_weight: np.ndarray
    factors: np.ndarray
    rho: np.ndarray
    rho_balanced: np.ndarray
    weights: np.ndarray

    @property
    def marks(self) -> np.ndarray:
        """The timesteps (t,) as the page names them, 0 to 999: in thousandths where the model is given fractions."""
        return self.timesteps * 1000 if self.timesteps.max() <= 1 else self.timesteps

    def nearest(self, timestep: int) -> int:
        """The index of the calibrated timestep nearest to the chosen one."""
        return int(np.abs(self.marks - timestep).argmin())


@shared(maxsize=128)
def layer_view(model: str, layer: str, csb: bool, ssc: bool, strength: int) -> LayerView:
    """Everything the charts of one layer show except its error. Raises ValueError for an unknown layer."""
    from ptq4dit.paper.ssc import spearman_rho, timestep_weights
    from ptq4dit.quantized.balance import layer_factor, tied_names

    about, stats, layers = site(model, layer), explored(model, strength).stats, sites(model, strength)
    activation, weight = stats.activation_salience[layer], stats.weight_salience[layer]
    tied = tied_names(layers[layer], layers)
    b_x = layer_factor(stats, layers[layer], csb=csb, ssc=ssc, balance_inputs=about.itself, tied=tied)
    return LayerView(
        layer=layer,
        role=about.role,
        csb=csb,
        ssc=ssc,
        strength=strength,
        balanced=csb and about.balanced,
        timesteps=_array(stats.timesteps),
        activation=_array(activation),
        weight=_array(weight),
        balanced_activation=_array(activation * b_x),
        balanced_weight=_array(weight / b_x),
        factors=_array(b_x),
        rho=_array(spearman_rho(activation, weight)),
        rho_balanced=_array(spearman_rho(activation * b_x, weight / b_x)),
        weights=_array(timestep_weights(activation, weight)),
    )


def _array(tensor: Any) -> np.ndarray:
    """A tensor as a numpy array."""
    return np.asarray(tensor)


def layer_errors(
    model: str, layer: str, weight_bits: int, activation_bits: int, strength: int, tokens: bool = False
) -> LayerErrors:
    """The error of one layer without balancing, with CSB and with CSB + SSC; one that is not balanced has the first."""
    return layer_effect(model, layer, weight_bits, activation_bits, strength, tokens).errors


@shared(maxsize=64)
def map_numbers(
    model: str, measure: str, weight_bits: int, activation_bits: int, strength: int, tokens: bool = False
) -> dict[str, float]:
    """One number a layer; errors in percent. Raises ValueError for an unknown measure."""
    stats = explored(model, strength).stats
    known = measure in WAYS and not tokens
    stored = stored_errors(model, weight_bits, activation_bits, strength) if known else None
    if stored is not None:
        return {layer: 100 * stored[layer][measure] for layer in stats.layers}
    how = weight_bits, activation_bits, strength, tokens
    return {layer: _map_number(model, measure, layer, *how) for layer in stats.layers}


def _map_number(
    model: str, measure: str, layer: str, weight_bits: int, activation_bits: int, strength: int, tokens: bool
) -> float:
    """The number that the map shows for one layer."""
    if measure in WAYS:
        errors = layer_errors(model, layer, weight_bits, activation_bits, strength, tokens).overall
        return 100 * errors.get(measure, float("nan"))
    view = layer_view(model, layer, False, False, strength)
    match measure:
        case "activation":
            return salience_ratio(view.activation.max(axis=0))
        case "weight":
            return salience_ratio(view.weight)
        case "rho":
            return float(view.rho.mean())
    raise ValueError(f"measure: expected one of {', '.join(MEASURES)}; got {brief(measure)}")


def salience_ratio(salience: np.ndarray) -> float:
    """How far the most salient of (channel,) stands out: the largest over the median."""
    return float(salience.max() / max(float(np.median(salience)), 1e-12))
