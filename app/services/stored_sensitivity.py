"""What hurts the picture, layer by layer: stored measurements with one layer rounded and all else in float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.balancing import NAMES, way
from app.services.cache import shared
from app.services.loading import command
from app.services.models import explored
from app.services.result_files import result_files

if TYPE_CHECKING:
    from ptq4dit import Sensitivity

FILES = "sensitivity*.json"  # the one that is made with the model, and others beside it


def hurts(model: str, weight_bits: int, csb: bool, ssc: bool, strength: int) -> dict[str, Any]:
    """Percent of the prediction that each layer's rounding takes, in model order, and what was measured in words.

    Measured with the switches as they are where that is stored, else as it is stored. Raises ValueError where nothing
    is stored of this very model at this strength of the dial and these bits of the weights; the message says how to
    make it.
    """
    layers = list(explored(model, strength).stats.layers)
    found = _of_model(model, strength)
    if not found:
        raise ValueError(_missing(model, strength))
    fitting = [one for one in found if set(layers) <= set(one.errors) and weight_bits in one.errors[layers[0]]]
    if not fitting:
        known = sorted({bits for one in found for errors in one.errors.values() for bits in errors})
        raise ValueError(
            f"What hurts the picture is measured for weights of {' and '.join(map(str, known))} bits; choose one of "
            "them above."
        )
    asked = way(csb, ssc)
    chosen = next((one for one in fitting if _way(one) == asked), fitting[0])
    values = [float(f"{100 * chosen.errors[name][weight_bits]:.5g}") for name in layers]
    return {"made": "simulated", "values": values, "told": _told(chosen, weight_bits, asked, layers, values)}


def _told(chosen: Sensitivity, weight_bits: int, asked: str, layers: list[str], values: list[float]) -> str:
    """What was measured, and which layer hurts most."""
    how = f"W{weight_bits}A{chosen.settings.get('activation_bits', 8)}, {NAMES[_way(chosen)]}, simulated"
    other = "" if _way(chosen) == asked else f" Not measured with {NAMES[asked]}, which the switches above say."
    worst = max(range(len(values)), key=values.__getitem__)
    share = sum(sorted(values)[-max(1, len(values) // 10) :]) / (sum(values) or 1)
    return (
        f"Only this layer rounded ({how}), all others in float, from the same noise: how far the guided prediction is "
        f"off, in % of its energy, over {chosen.samples} calls. **{layers[worst]}** hurts most, {values[worst]:.3g} %; "
        f"the worst tenth of the layers makes {100 * share:.0f} % of all.{other}"
    )


def _way(one: Sensitivity) -> str:
    """How it was balanced; files of before they said so were made with the defaults."""
    return way(bool(one.settings.get("csb", True)), bool(one.settings.get("ssc", True)))


def _missing(model: str, strength: int) -> str:
    if strength == 1:
        return f"What hurts the picture has not been measured of {model} yet. Make it: {command(model)}"
    return (
        f"What hurts the picture has not been measured of {model} at salience x {strength}. Turn the dial back, or "
        f"make it: {command(model, 'sensitivity', f'--strength {strength}', '--explorer')}"
    )


@shared(maxsize=16)
def _of_model(model: str, strength: int) -> tuple[Sensitivity, ...]:
    """What is stored of this very model, its salience raised so far."""
    import ptq4dit
    from ptq4dit.storage.provenance import same_model

    own, found = explored(model, strength).stats.model, []
    for file in sorted(result_files(model)):
        if not file.match(FILES):
            continue
        try:
            one = ptq4dit.Sensitivity.load(file)
        except ValueError:
            continue
        if same_model(one.model, own):
            found.append(one)
    return tuple(found)
