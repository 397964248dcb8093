"""Look-ups for the Inspect tab: one layer's salience, correlation and error, and one number a layer for the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.services.cache import shared
from app.services.effect import LayerErrors, layer_effect, require_layer
from app.services.models import explored
from app.services.rounding import stored_errors
from app.state import brief

MEASURES = {
    "activation": "activation salience, max / median",
    "weight": "weight salience, max / median",
    "rho": "mean rho over timesteps",
    "none": "error, no balancing (%)",
    "csb": "error, CSB (%)",
    "csb+ssc": "error, CSB + SSC (%)",
}
ERRORS = ("none", "csb", "csb+ssc")


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerView:
    """One layer before and after balancing. Arrays are numpy; t counts the calibrated timesteps.

    timesteps (t,); activation, balanced_activation (t, channel); weight, balanced_weight (channel,); rho, rho_balanced
    (t,); weights (t,), eq. 11 with SSC, all on the middle timestep without; factors (channel,), the diagonal of B_X.
    Where nothing is balanced (csb off, or fc2) the balanced arrays equal the others and `balanced` is False.
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

    def nearest(self, timestep: int) -> int:
        """The index of the calibrated timestep nearest to the chosen one."""
        return int(np.abs(self.timesteps - timestep).argmin())


def variant(csb: bool, ssc: bool) -> str:
    """The key of `LayerErrors` that the switches stand for."""
    return ("csb+ssc" if ssc else "csb") if csb else "none"


@shared(maxsize=128)
def layer_view(layer: str, csb: bool, ssc: bool, strength: int) -> LayerView:
    """Everything the charts of one layer show except its error. Raises ValueError for an unknown layer."""
    from ptq4dit.paper.ssc import spearman_rho, timestep_weights
    from ptq4dit.quantized.balance import layer_factor

    require_layer(layer)
    stats = explored(strength).stats
    activation, weight = stats.activation_salience[layer], stats.weight_salience[layer]
    role = layer.rsplit(".", 1)[1]
    balanced = csb and role != "fc2"
    b_x = layer_factor(stats, layer, csb=csb, ssc=ssc)
    return LayerView(
        layer=layer,
        role=role,
        csb=csb,
        ssc=ssc,
        strength=strength,
        balanced=balanced,
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


def layer_errors(layer: str, weight_bits: int, activation_bits: int, strength: int) -> LayerErrors:
    """The error of one layer without balancing, with CSB and with CSB + SSC; fc2 has the first only."""
    return layer_effect(layer, weight_bits, activation_bits, strength).errors


@shared(maxsize=64)
def map_numbers(measure: str, weight_bits: int, activation_bits: int, strength: int) -> dict[str, float]:
    """One number a layer; errors in percent. Raises ValueError for an unknown measure."""
    stats = explored(strength).stats
    stored = stored_errors(weight_bits, activation_bits, strength) if measure in ERRORS else None
    if stored is not None:
        return {layer: 100 * stored[layer][measure] for layer in stats.layers}
    return {layer: _map_number(measure, layer, weight_bits, activation_bits, strength) for layer in stats.layers}


def _map_number(measure: str, layer: str, weight_bits: int, activation_bits: int, strength: int) -> float:
    """The number that the map shows for one layer."""
    if measure in ERRORS:
        errors = layer_errors(layer, weight_bits, activation_bits, strength).overall
        return 100 * errors.get(measure, float("nan"))
    view = layer_view(layer, False, False, strength)
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
