"""What a program looks up: the layers, and one layer's salience, correlation over time and quantization error."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from app.components.messages import checked_by, explained
from app.services import inspection
from app.services.models import Outline, explored, outline
from app.services.request import Variant
from app.services.shelf import entry, first, names
from app.services.sites import require_layer
from app.state import Selection


def create_endpoints() -> None:
    """Offer the look-ups; they need no queue."""
    for endpoint in (models, layers, layer_salience, layer_correlation, layer_error):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=4, concurrency_id="look-up")


def models() -> list[dict[str, Any]]:
    """List the models that can be asked about, the one that the page opens with first.

    Returns:
        For each its name, whether it is given prompts or classes, the number of its classes, and whether it is
        calibrated; without that nothing can be looked up of it.
    """
    with explained():
        return [_told(outline(name)) for name in names()]


def _told(about: Outline) -> dict[str, Any]:
    given = "prompts" if about.prompted else "classes" if about.known else "not known before it is loaded"
    return {"model": about.name, "given": given, "classes": len(about.labels), "calibrated": bool(about.layers)}


def _model(model: str) -> Selection:
    """What `layers` is asked for."""
    return Selection(model=named(model))


@checked_by(_model)
def layers(model: str = "") -> list[str]:
    """List the layers of a model that can be looked up, in model order.

    Args:
        model: a name that /models lists; the first one if empty.

    Returns:
        Names such as "blocks.3.fc1", "blocks.3.context.qkv" or "single.7.proj".
    """
    with explained():
        return list(explored(_model(model).model).stats.layers)


def named(model: str) -> str:
    """The model of that name; the first one without a name. Raises ValueError, naming all, for another."""
    return entry(model).name if model else first().name


def _salience(layer: str, timestep: int, csb: bool, ssc: bool, strength: int, model: str) -> Selection:
    """What `layer_salience` is asked for."""
    return Selection(model=named(model), layer=layer, timestep=timestep, csb=csb, ssc=ssc, strength=strength)


def _correlation(layer: str, csb: bool, ssc: bool, strength: int, model: str) -> Selection:
    """What `layer_correlation` is asked for."""
    return Selection(model=named(model), layer=layer, csb=csb, ssc=ssc, strength=strength)


def _error(layer: str, bits: str, strength: int, model: str, tokens: bool) -> Selection:
    """What `layer_error` is asked for."""
    wanted = Variant.parse(bits, False, False)
    return Selection(
        model=named(model),
        layer=layer,
        csb=False,
        ssc=False,
        strength=strength,
        weight_bits=wanted.weight_bits,
        activation_bits=wanted.activation_bits,
        tokens=tokens,
    )


@checked_by(_salience)
def layer_salience(
    layer: str, timestep: int = 500, csb: bool = True, ssc: bool = True, strength: int = 1, model: str = ""
) -> dict[str, Any]:
    """Look up the salience max |value| of a layer's input channels, before and after balancing.

    Args:
        layer: such as "blocks.3.fc1".
        timestep: 0 to 999; the nearest calibrated timestep answers.
        csb: Channel-wise Salience Balancing.
        ssc: Spearman's rho-guided Salience Calibration; needs csb.
        strength: salience dial, 1 (as trained), 2, 4, 8 or 16; the model's function is unchanged.
        model: a name that /models lists; the first one if empty.

    Returns:
        model, layer, timestep; one number a channel in activation, weight, balanced_activation, balanced_weight and
        factors.
    """
    with explained():
        chosen = _salience(layer, timestep, csb, ssc, strength, model)
        view = _view(chosen)
        at = view.nearest(chosen.timestep)
        return {
            "model": chosen.model,
            "layer": layer,
            "timestep": view.timesteps[at].item(),
            "activation": _list(view.activation[at]),
            "weight": _list(view.weight),
            "balanced_activation": _list(view.balanced_activation[at]),
            "balanced_weight": _list(view.balanced_weight),
            "factors": _list(view.factors),
        }


@checked_by(_correlation)
def layer_correlation(
    layer: str, csb: bool = True, ssc: bool = True, strength: int = 1, model: str = ""
) -> dict[str, Any]:
    """Look up Spearman's rho between activation and weight salience over the timesteps, and the timesteps' weights.

    Args:
        layer: such as "blocks.3.fc1".
        csb: Channel-wise Salience Balancing; acts on rho_balanced.
        ssc: Spearman's rho-guided Salience Calibration; needs csb.
        strength: salience dial, 1 (as trained), 2, 4, 8 or 16; the model's function is unchanged.
        model: a name that /models lists; the first one if empty.

    Returns:
        model, layer, and one number a calibrated timestep in timesteps, rho, rho_balanced and weights (eta, eq. 11).
    """
    with explained():
        chosen = _correlation(layer, csb, ssc, strength, model)
        view = _view(chosen)
        return {
            "model": chosen.model,
            "layer": layer,
            "timesteps": view.timesteps.tolist(),
            "rho": _list(view.rho),
            "rho_balanced": _list(view.rho_balanced),
            "weights": _list(view.weights),
        }


@checked_by(_error)
def layer_error(
    layer: str, bits: str = "W4A8", strength: int = 1, model: str = "", tokens: bool = False
) -> dict[str, Any]:
    """Look up the relative output error of one quantized layer (simulated) without balancing, with CSB, with CSB + SSC.

    Args:
        layer: such as "blocks.3.fc1"; fc2 is not balanced and has the first only.
        bits: weight and activation bits such as "W4A8" (2 to 8, 16 = float).
        strength: salience dial, 1 (as trained), 2, 4, 8 or 16; the model's function is unchanged.
        model: a name that /models lists; the first one if empty.
        tokens: a scale for every token's input instead of one for all.

    Returns:
        model, layer, bits, timesteps, overall (variant to fraction) and over_time (variant to one fraction a timestep).
    """
    with explained():
        chosen = _error(layer, bits, strength, model, tokens)
        view = _view(chosen)
        errors = inspection.layer_errors(chosen.model, chosen.layer, *chosen.rounding)
        return {
            "model": chosen.model,
            "layer": layer,
            "bits": bits,
            "made_by": "simulated",
            "timesteps": view.timesteps.tolist(),
            "overall": dict(errors.overall),
            "over_time": {variant: _list(values) for variant, values in errors.over_time.items()},
        }


def _view(chosen: Selection) -> inspection.LayerView:
    """The layer that was asked for, refused in words where there is none such."""
    require_layer(chosen.model, chosen.layer)
    return inspection.layer_view(chosen.model, chosen.layer, chosen.csb, chosen.ssc, chosen.strength)


def _list(values: np.ndarray) -> list[float]:
    """An array as plain numbers with seven significant digits."""
    return [number(value) for value in values]


def number(value: float) -> float:
    """A number with seven significant digits."""
    return float(f"{value:.7g}")
