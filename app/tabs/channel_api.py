"""What a program looks up of one channel, with the link that shows it on the page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from app.balancing import NAMES, TOKENS, way
from app.components.messages import checked_by, explained
from app.services.channel import channel_view
from app.services.request import Variant
from app.state import Selection
from app.tabs.inspect_api import named, number

LINKED = ("model", "layer", "timestep", "channel", "weight_bits", "activation_bits", "csb", "ssc", "strength", "tokens")


def create_endpoint() -> None:
    """Offer the look-up; it needs no queue of its own."""
    gr.api(channel, api_name="channel", concurrency_limit=4, concurrency_id="look-up")


def _channel(
    layer: str, channel: int, timestep: int, bits: str, csb: bool, ssc: bool, strength: int, model: str, tokens: bool
) -> Selection:
    """What `channel` is asked for."""
    wanted = Variant.parse(bits, csb, ssc, tokens=tokens)
    return Selection(
        model=named(model),
        layer=layer,
        channel=channel,
        timestep=timestep,
        weight_bits=wanted.weight_bits,
        activation_bits=wanted.activation_bits,
        csb=wanted.csb,
        ssc=wanted.ssc,
        strength=strength,
        tokens=wanted.tokens,
    )


@checked_by(_channel)
def channel(
    layer: str,
    channel: int,
    timestep: int = 500,
    bits: str = "W4A8",
    csb: bool = True,
    ssc: bool = True,
    strength: int = 1,
    model: str = "",
    tokens: bool = False,
) -> dict[str, Any]:
    """Look up one input channel of a layer at one timestep: what it is, what balancing and rounding make of it.

    Args:
        layer: such as "blocks.3.fc1".
        channel: 0 to the layer's number of input channels less 1.
        timestep: 0 to 999; the nearest calibrated timestep answers.
        bits: weight and activation bits such as "W4A8" (2 to 8, 16 = float).
        csb: Channel-wise Salience Balancing.
        ssc: Spearman's rho-guided Salience Calibration; needs csb.
        strength: salience dial, 1 (as trained), 2, 4, 8 or 16; the model's function is unchanged.
        model: a name that /models lists; the first one if empty.
        tokens: a scale for every token's input instead of one for all.

    Returns:
        What was asked, and of the channel its salience in activation and weight (max |value|) with their ranks, both
        balanced, factor (of B_X) and error (made by rounding this channel, relative to the layer's output, simulated);
        of the layer rho, rho_balanced and eta at the timestep, input_step and weight_step (of the grids; null in
        float); and link, which opens the channel on the page behind the app's address.
    """
    with explained():
        chosen = _channel(layer, channel, timestep, bits, csb, ssc, strength, model, tokens)
        found = asdict(channel_view(chosen))
        return {
            "model": chosen.model,
            "layer": layer,
            "channel": chosen.channel,
            "bits": f"W{chosen.weight_bits}A{chosen.activation_bits}",
            "balancing": NAMES[way(chosen.csb, chosen.ssc)] + TOKENS[chosen.tokens],
            "strength": chosen.strength,
            "made_by": "simulated",
            **{name: number(value) if isinstance(value, float) else value for name, value in found.items()},
            "link": link(chosen),
        }


def link(chosen: Selection) -> str:
    """Where Inspect shows what was chosen, from the app's address on; all is said, so that no default can change it."""
    query = chosen.to_query(everything=True)
    return "?" + urlencode({"tab": "inspect"} | {name: query[name] for name in LINKED})
