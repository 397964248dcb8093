"""What Inspect's script asks the server for; every question is checked, every problem answered in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.services import payloads
from app.services.models import ModelMissing
from app.state import Selection

Question = Any  # a script sends its arguments as one list, or a single one as it is


def layer(question: Question) -> dict[str, Any]:
    """Salience, rho, eta and factors of a layer: [layer, strength]."""
    return _answer(lambda one: payloads.layer_payload(one.layer, one.strength), question, "layer", "strength")


def effect(question: Question) -> dict[str, Any]:
    """Errors and histograms of a layer, simulated: [layer, weight bits, activation bits, strength]."""

    def respond(one: Selection) -> dict[str, Any]:
        return payloads.effect_payload(one.layer, one.weight_bits, one.activation_bits, one.strength)

    return _answer(respond, question, "layer", "weight_bits", "activation_bits", "strength")


def channel(question: Question) -> dict[str, Any]:
    """The values of one channel: [layer, channel, strength]."""

    def respond(one: Selection) -> dict[str, Any]:
        return dict(payloads.channel_payload(one.layer, one.channel, one.strength))

    return _answer(respond, question, "layer", "channel", "strength")


def overview(question: Question) -> dict[str, Any]:
    """All layers and what they are before rounding: the strength of the salience dial."""
    return _answer(lambda one: payloads.overview_payload(one.strength), question, "strength")


def errors(question: Question) -> dict[str, Any]:
    """The error of every layer, simulated: [weight bits, activation bits, strength]."""

    def respond(one: Selection) -> dict[str, Any]:
        return payloads.errors_payload(one.weight_bits, one.activation_bits, one.strength)

    return _answer(respond, question, "weight_bits", "activation_bits", "strength")


def _answer(respond: Callable[[Selection], dict[str, Any]], question: Question, *names: str) -> dict[str, Any]:
    """The answer, or what is wrong with the question: a value for each of the named fields of a selection."""
    values = question if isinstance(question, list) else [question]
    try:
        if len(values) != len(names):
            raise ValueError(f"question: expected {', '.join(names)}; got {len(values)} values")
        return respond(Selection(**dict(zip(names, values, strict=True))))
    except (ValueError, ModelMissing) as error:
        return {"problem": str(error)}
