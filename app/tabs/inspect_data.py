"""What Inspect's script asks the server for; every question is checked, every problem answered in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.services import payloads
from app.services.models import ModelMissing
from app.state import Selection

Question = list[Any]  # a script sends its arguments as one list, or a single one as it is


def layer(question: Question) -> dict[str, Any]:
    """Salience, rho, eta and factors of a layer: [layer, strength]."""
    return _answer(lambda name, strength: payloads.layer_payload(*_checked(name, strength)), question)


def effect(question: Question) -> dict[str, Any]:
    """Errors and histograms of a layer, simulated: [layer, weight bits, activation bits, strength]."""

    def answer(name: str, weight_bits: int, activation_bits: int, strength: int) -> dict[str, Any]:
        chosen = Selection(layer=name, weight_bits=weight_bits, activation_bits=activation_bits, strength=strength)
        return payloads.effect_payload(chosen.layer, chosen.weight_bits, chosen.activation_bits, chosen.strength)

    return _answer(answer, question)


def channel(question: Question) -> dict[str, Any]:
    """The values of one channel: [layer, channel, strength]."""

    def answer(name: str, number: int, strength: int) -> dict[str, Any]:
        chosen = Selection(layer=name, channel=number, strength=strength)
        return dict(payloads.channel_payload(chosen.layer, chosen.channel, chosen.strength))

    return _answer(answer, question)


def overview(question: Any) -> dict[str, Any]:
    """All layers and what they are before rounding: the strength of the salience dial."""
    return _answer(lambda strength: payloads.overview_payload(Selection(strength=strength).strength), question)


def errors(question: Question) -> dict[str, Any]:
    """The error of every layer, simulated: [weight bits, activation bits, strength]."""

    def answer(weight_bits: int, activation_bits: int, strength: int) -> dict[str, Any]:
        chosen = Selection(weight_bits=weight_bits, activation_bits=activation_bits, strength=strength)
        return payloads.errors_payload(chosen.weight_bits, chosen.activation_bits, chosen.strength)

    return _answer(answer, question)


def _checked(name: str, strength: int) -> tuple[str, int]:
    chosen = Selection(layer=name, strength=strength)
    return chosen.layer, chosen.strength


def _answer(respond: Callable[..., dict[str, Any]], question: Any) -> dict[str, Any]:
    """The answer, or what is wrong with the question."""
    arguments = question if isinstance(question, list) else [question]
    try:
        return respond(*arguments)
    except (ValueError, TypeError, ModelMissing) as error:
        return {"problem": str(error)}
