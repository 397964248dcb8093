"""What Inspect's script asks the server for; every question is checked, every problem answered in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.components.messages import in_words
from app.services import channel_grid, payloads, stored_sensitivity
from app.services.loading import ModelMissing
from app.services.shelf import entry
from app.state import Selection

Question = Any  # a script sends its arguments as one list, or a single one as it is


def layer(question: Question) -> dict[str, Any]:
    """Salience, rho, eta and factors of a layer: [model, layer, strength]."""

    def respond(one: Selection) -> dict[str, Any]:
        return payloads.layer_payload(one.model, one.layer, one.strength)

    return _answer(respond, question, "layer", "strength")


def effect(question: Question) -> dict[str, Any]:
    """Errors and histograms of a layer, simulated: [model, layer, weight bits, activation bits, strength, tokens]."""

    def respond(one: Selection) -> dict[str, Any]:
        return payloads.effect_payload(one.model, one.layer, *one.rounding)

    return _answer(respond, question, "layer", "weight_bits", "activation_bits", "strength", "tokens")


def channel(question: Question) -> dict[str, Any]:
    """The values of one channel: [model, layer, channel, strength]."""

    def respond(one: Selection) -> dict[str, Any]:
        return dict(payloads.channel_payload(one.model, one.layer, one.channel, one.strength))

    return _answer(respond, question, "layer", "channel", "strength")


def overview(question: Question) -> dict[str, Any]:
    """All layers, where each stands, and what they are before rounding: [model, strength]."""
    return _answer(lambda one: payloads.overview_payload(one.model, one.strength), question, "strength")


def errors(question: Question) -> dict[str, Any]:
    """The error of every layer, simulated: [model, weight bits, activation bits, strength, tokens]."""

    def respond(one: Selection) -> dict[str, Any]:
        return payloads.errors_payload(one.model, *one.rounding)

    return _answer(respond, question, "weight_bits", "activation_bits", "strength", "tokens")


def hurts(question: Question) -> dict[str, Any]:
    """What each layer's rounding alone does to the prediction, as stored: [model, weight bits, csb, ssc, strength]."""

    def respond(one: Selection) -> dict[str, Any]:
        return stored_sensitivity.hurts(one.model, one.weight_bits, one.csb, one.ssc, one.strength)

    return _answer(respond, question, "weight_bits", "csb", "ssc", "strength")


def place(question: Question) -> dict[str, Any]:
    """Where a channel stands on the grid of its layer's input: [model, layer, channel, activation bits, strength]."""

    def respond(one: Selection) -> dict[str, Any]:
        return channel_grid.channel_grid(one.model, one.layer, one.channel, one.activation_bits, one.strength)

    return _answer(respond, question, "layer", "channel", "activation_bits", "strength")


def salient(question: Question) -> dict[str, Any]:
    """The most salient input channel of a layer: [model, layer, strength]."""

    def respond(one: Selection) -> dict[str, Any]:
        return {"channel": channel_grid.most_salient_channel(one.model, one.layer, one.strength)}

    return _answer(respond, question, "layer", "strength")


def _answer(respond: Callable[[Selection], dict[str, Any]], question: Question, *names: str) -> dict[str, Any]:
    """The answer, or what is wrong with the question: the model, then a value for each of the named fields."""
    values = question if isinstance(question, list) else [question]
    names = ("model", *names)
    try:
        if len(values) != len(names):
            raise ValueError(f"question: expected {', '.join(names)}; got {len(values)} values")
        asked = Selection(**dict(zip(names, values, strict=True)))
        entry(asked.model)
        return respond(asked)
    except (ValueError, ModelMissing) as error:
        return {"problem": in_words(error)}
