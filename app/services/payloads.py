"""What the browser draws Inspect from: a layer's numbers in one answer, small enough to keep and quick to read."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np

from app.balancing import SWITCHES, WAYS
from app.content import readings
from app.services.cache import shared
from app.services.channel import require_channel
from app.services.effect import layer_effect
from app.services.inspection import layer_view, map_numbers
from app.services.models import explored, outline
from app.services.rounding import stored_errors
from app.services.sites import places, require_layer, site, sites, variants_of

LARGEST = 40_000_000  # weights of a model whose layers' errors are all worked out when somebody looks


def packed(values: Any) -> str:
    """Numbers as 32-bit floats in base64, as the browser unpacks them."""
    return b64encode(np.asarray(values, "<f4").tobytes()).decode()


@shared(maxsize=128)
def layer_payload(model: str, layer: str, strength: int) -> dict[str, Any]:
    """Salience, rho and eta of one layer, and the factors of each way of balancing. Raises ValueError for another."""
    names, about = variants_of(model, layer), site(model, layer)
    views = {name: layer_view(model, layer, *SWITCHES[name], strength) for name in names}
    view = views["none"]
    return {
        "layer": layer,
        "role": view.role,
        "channels": len(view.weight),
        "timesteps": [float(f"{t:.4g}") if t % 1 else int(t) for t in view.timesteps.tolist()],
        "marks": [round(mark) for mark in view.marks.tolist()],
        "activation": packed(view.activation),
        "weight": packed(view.weight),
        "factors": {name: packed(views[name].factors) for name in names if name != "none"},
        "rho": {name: _rounded(views[name].rho_balanced) for name in names},
        "eta": _rounded(view.weights),
        "balanced": about.balanced,
        "note": readings.balancing_note(about.balanced, about.itself, about.why),
        "readings": {
            "summary": readings.summary(model, layer, len(view.weight), strength, about.role, about.reads),
            "heatmap": readings.heatmap_reading(view.timesteps, view.activation),
        },
    }


@shared(maxsize=128)
def effect_payload(
    model: str, layer: str, weight_bits: int, activation_bits: int, strength: int, tokens: bool = False
) -> dict[str, Any]:
    """What rounding does to one layer, simulated: its error, the values on their grids, the error of each channel."""
    effect = layer_effect(model, layer, weight_bits, activation_bits, strength, tokens)
    errors = effect.errors
    return {
        "made": "simulated",
        "variants": {
            name: {"error": error, "input": effect.inputs[name], "weight": effect.weights[name]}
            for name, error in errors.overall.items()
        },
        "channels": {name: _rounded(values) for name, values in effect.channels.items()},
        "over_time": {name: _rounded(values) for name, values in errors.over_time.items()},
        "reading": readings.error_reading(errors.overall, weight_bits, activation_bits, site(model, layer).why, tokens),
    }


def channel_payload(model: str, layer: str, channel: int, strength: int) -> dict[str, str]:
    """The stored values of one input channel and its row of the weight, as calibrated.

    Raises ValueError for a channel that the layer lacks.
    """
    require_layer(model, layer)
    samples = explored(model, strength).stats.samples[layer]
    require_channel(layer, channel, samples.shape[-1])
    linears = sites(model, strength)[layer].linears
    weight = np.concatenate([linear.weight.detach().flatten(1)[:, channel].float().numpy() for linear in linears])
    return {"activation": packed(samples[..., channel].float()), "weight": packed(weight)}


@shared(maxsize=8)
def overview_payload(model: str, strength: int) -> dict[str, Any]:
    """The layers, where each stands on the map, and what the map shows of them before anything is rounded."""
    layers = list(explored(model, strength).stats.layers)
    stand = places(layers)
    rows = list(dict.fromkeys(place.row for place in stand.values()))
    names = ("activation", "weight", "rho")
    return {
        "model": model,
        "layers": layers,
        "rows": rows,
        "places": [[rows.index(stand[name].row), stand[name].column] for name in layers],
        "measures": {name: _in_order(map_numbers(model, name, 4, 8, strength)) for name in names},
    }


@shared(maxsize=64)
def errors_payload(
    model: str, weight_bits: int, activation_bits: int, strength: int, tokens: bool = False
) -> dict[str, Any]:
    """The error of every layer with each way of balancing, in percent, simulated; none where a layer lacks it.

    Raises ValueError for a model so large that working them out here would keep all others waiting.
    """
    how = weight_bits, activation_bits, strength, tokens
    require_small(model, *how)
    measures = {name: _in_order(map_numbers(model, name, *how)) for name in WAYS}
    return {"made": "simulated", "measures": measures}


def require_small(model: str, weight_bits: int, activation_bits: int, strength: int, tokens: bool = False) -> None:
    """Raise ValueError where the errors of all layers are neither stored nor quick to work out."""
    if not is_small(model) and (tokens or stored_errors(model, weight_bits, activation_bits, strength) is None):
        raise ValueError(
            f"The errors of all {len(outline(model).layers)} layers of {model} at once would take minutes here, so the "
            "map shows what is known before anything is rounded; the errors of one layer are shown as you open it."
        )


def is_small(model: str) -> bool:
    """Whether the errors of all layers are worked out in seconds."""
    return sum(linear.weight.numel() for layer in sites(model).values() for linear in layer.linears) <= LARGEST


def _in_order(numbers: dict[str, float]) -> list[float | None]:
    """Numbers in layer order; JSON knows no nan."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in numbers.values()]


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.5g}") for value in np.asarray(values)]
