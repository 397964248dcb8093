"""What Inspect shows of a selection, with the reader's look and the reference, as the arrays that files are made of."""

from __future__ import annotations

from app.balancing import NAMES, TOKENS, way
from app.figures.inspect.content import Content, Quiet
from app.look import Look
from app.services.effect import LayerEffect, layer_effect
from app.services.inspection import LayerView, layer_view
from app.state import Selection, referred


def content_of(chosen: Selection, look: Look) -> Content:
    """The page of a layer. Raises ValueError for a layer that the model lacks, the reference's among them."""
    view, effect = view_of(chosen), _effect(chosen)
    at, over_all = view.nearest(chosen.timestep), look.span == "all"
    activation = view.activation.max(axis=0) if over_all else view.activation[at]
    balanced = (activation * view.factors, view.balanced_weight) if view.balanced else None
    return Content(
        title=title(chosen, look),
        activation=activation,
        weight=view.weight,
        balanced=balanced,
        order=look.order(activation, view.weight, view.factors, chosen.channel),
        timesteps=view.timesteps,
        rho=view.rho,
        rho_balanced=view.rho_balanced if view.balanced else None,
        weights=view.weights,
        salience=view.activation if look.stage == "before" else view.balanced_activation,
        errors=effect.errors.overall,
        errors_over_time=effect.errors.over_time,
        channel_errors=effect.channels,
        timestep=view.timesteps[at].item(),
        channel=chosen.channel,
        scale=look.scale,
        stage=look.stage,
        quiet=_quiet(chosen, look) if chosen.reference else None,
    )


def view_of(chosen: Selection) -> LayerView:
    """The chosen layer as the switches balance it."""
    return layer_view(chosen.model, chosen.layer, chosen.csb, chosen.ssc, chosen.strength)


def title(chosen: Selection, look: Look) -> str:
    """What made the numbers and how they are shown, in one line."""
    dial = f", salience x {chosen.strength}, function unchanged" if chosen.strength > 1 else ""
    method, bits = NAMES[way(chosen.csb, chosen.ssc)], f"W{chosen.weight_bits}A{chosen.activation_bits}"
    looked = f"; channels {look.told}" if look.told else ""
    how = f"{bits} simulated, {method}{TOKENS[chosen.tokens]}"
    return f"{chosen.model}: {chosen.layer}, timestep {chosen.timestep}, {how}{dial}{looked}"


def _effect(chosen: Selection) -> LayerEffect:
    return layer_effect(chosen.model, chosen.layer, *chosen.rounding)


def _quiet(chosen: Selection, look: Look) -> Quiet:
    """The reference as its own switches leave it; before balancing where the reader looks at that."""
    other = referred(chosen.reference)
    view, effect = view_of(other), _effect(other)
    balanced = view.balanced and look.stage != "before"
    salience = view.balanced_activation if balanced else view.activation
    balancing = way(view.balanced, view.ssc)
    return Quiet(
        name=apart(other, view, chosen),
        activation=salience.max(axis=0) if look.span == "all" else salience[view.nearest(other.timestep)],
        weight=view.balanced_weight if balanced else view.weight,
        timesteps=view.timesteps,
        rho=view.rho_balanced if view.balanced else view.rho,
        weights=view.weights,
        errors=effect.errors.over_time[balancing],
        channel_errors=effect.channels[balancing],
    )


def apart(other: Selection, view: LayerView, chosen: Selection) -> str:
    """What sets a view apart from the chosen one, in words."""

    def told(one: Selection, of: LayerView) -> dict[str, str]:
        return {
            "model": one.model,
            "layer": one.layer,
            "timestep": f"timestep {of.timesteps[of.nearest(one.timestep)]:g}",
            "bits": f"W{one.weight_bits}A{one.activation_bits}{TOKENS[one.tokens]}",
            "way": NAMES[way(one.csb, one.ssc)],
            "dial": f"salience x {one.strength}",
        }

    usual = told(chosen, view_of(chosen))
    return ", ".join(text for name, text in told(other, view).items() if text != usual[name]) or "the same view"
