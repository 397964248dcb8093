"""What the browser draws Inspect from: a layer's numbers in one answer, small enough to keep and quick to read."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np

from app.content import readings
from app.services.cache import shared
from app.services.effect import layer_effect, require_layer, variants_of
from app.services.inspection import layer_view, map_numbers
from app.services.models import explored
from app.state import brief

BALANCINGS = {"none": (False, False), "csb": (True, False), "csb+ssc": (True, True)}


def packed(values: Any) -> str:
    """Numbers as 32-bit floats in base64, as the browser unpacks them."""
    return b64encode(np.asarray(values, "<f4").tobytes()).decode()


@shared(maxsize=128)
def layer_payload(layer: str, strength: int) -> dict[str, Any]:
    """Salience, rho and eta of one layer, and the factors of each way of balancing. Raises ValueError for another."""
    names = variants_of(layer)
    views = {name: layer_view(layer, *BALANCINGS[name], strength) for name in names}
    view = views["none"]
    return {
        "layer": layer,
        "role": view.role,
        "channels": len(view.weight),
        "timesteps": view.timesteps.tolist(),
        "activation": packed(view.activation),
        "weight": packed(view.weight),
        "factors": {name: packed(views[name].factors) for name in names if name != "none"},
        "rho": {name: _rounded(views[name].rho_balanced) for name in names},
        "eta": _rounded(view.weights),
        "note": readings.NOT_BALANCED if view.role == "fc2" else "",
        "readings": {
            "summary": readings.summary(layer, len(view.weight), strength),
            "heatmap": readings.heatmap_reading(view.timesteps, view.activation),
        },
    }


@shared(maxsize=128)
def effect_payload(layer: str, weight_bits: int, activation_bits: int, strength: int) -> dict[str, Any]:
    """What rounding does to one layer, simulated: its error, the values on their grids, the error of each channel."""
    effect = layer_effect(layer, weight_bits, activation_bits, strength)
    errors = effect.errors
    return {
        "made": "simulated",
        "variants": {
            name: {"error": error, "input": effect.inputs[name], "weight": effect.weights[name]}
            for name, error in errors.overall.items()
        },
        "channels": {name: _rounded(values) for name, values in effect.channels.items()},
        "over_time": {name: _rounded(values) for name, values in errors.over_time.items()},
        "reading": readings.error_reading(errors.overall, weight_bits, activation_bits),
    }


def channel_payload(layer: str, channel: int, strength: int) -> dict[str, str]:
    """The stored values of one input channel and its row of the weight, as calibrated.

    Raises ValueError for a channel that the layer lacks.
    """
    from ptq4dit.linears import get_layer

    require_layer(layer)
    model = explored(strength)
    samples = model.stats.samples[layer]
    if not 0 <= channel < samples.shape[-1]:
        raise ValueError(f"channel: expected 0 to {samples.shape[-1] - 1} in {layer}; got {brief(channel)}")
    linears = get_layer(model.dit.transformer, layer).linears
    weight = np.concatenate([linear.weight.detach()[:, channel].float().numpy() for linear in linears])
    return {"activation": packed(samples[..., channel].float()), "weight": packed(weight)}


@shared(maxsize=8)
def overview_payload(strength: int) -> dict[str, Any]:
    """The layers, and what the map shows of them before anything is rounded."""
    measures = {name: _in_order(map_numbers(name, 4, 8, strength)) for name in ("activation", "weight", "rho")}
    return {"layers": list(explored(strength).stats.layers), "measures": measures}


@shared(maxsize=64)
def errors_payload(weight_bits: int, activation_bits: int, strength: int) -> dict[str, Any]:
    """The error of every layer with each way of balancing, in percent, simulated; none where a layer lacks it."""
    measures = {name: _in_order(map_numbers(name, weight_bits, activation_bits, strength)) for name in BALANCINGS}
    return {"made": "simulated", "measures": measures}


def _in_order(numbers: dict[str, float]) -> list[float | None]:
    """Numbers in layer order; JSON knows no nan."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in numbers.values()]


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.5g}") for value in np.asarray(values)]
