"""One line under each chart: what it says, in plain words and with its own numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NOT_BALANCED = (
    "fc2 is quantized but not balanced: the GELU between fc1 and fc2 is not linear, so nothing in front of fc2 can "
    "absorb the balancing factors."
)
_TOP = 10


ROLE = {
    "qkv": "makes query, key and value of the self-attention",
    "proj": "projects the attention's output",
    "fc1": "first layer of the feed-forward part",
    "fc2": "second layer of the feed-forward part",
}


def summary(layer: str, channels: int, strength: int) -> str:
    """Which layer is on show, on which model."""
    role = layer.rsplit(".", 1)[1]
    dial = f" Salience x {strength}, function unchanged." if strength > 1 else ""
    return f"**{layer}**, {channels} input channels: {ROLE[role]}.{dial}"


def heatmap_reading(timesteps: np.ndarray, salience: np.ndarray) -> str:
    """How much the salient channels of (t, channel) change over time."""
    top = int(salience.max(axis=0).argmax())
    fold = salience[:, top].max() / max(float(salience[:, top].min()), 1e-9)
    first, last = (set(np.argsort(-salience[t])[:_TOP]) for t in (0, -1))
    return (
        f"Channel **{top}** varies **{fold:.1f}-fold** over the timesteps. Of the {_TOP} most salient channels at "
        f"timestep {timesteps[0]}, {len(first & last)} are still among the {_TOP} most salient at {timesteps[-1]}."
    )


def error_reading(errors: Mapping[str, float], weight_bits: int, activation_bits: int) -> str:
    """What rounding does to the layer's output, and how much of it balancing takes away."""
    bits = f"W{weight_bits}A{activation_bits}"
    if max(errors.values()) < 1e-9:
        return "Weights and activations stay in float: nothing is rounded, so there is no error to show."
    text = f"At {bits} the layer's output is off by **{_percent(errors['none'])}** without balancing"
    if "csb+ssc" not in errors:
        return f"{text} (simulated). {NOT_BALANCED}"
    best = errors["csb+ssc"]
    times = errors["none"] / best if best > 0 else 1.0
    verdict = f"{times:.2g}x less" if times >= 1 else f"{1 / times:.2g}x more"
    return f"{text}, {_percent(errors['csb'])} with CSB and **{_percent(best)}** with CSB + SSC: {verdict} (simulated)."


def _percent(fraction: float) -> str:
    """A fraction as a percentage with three significant digits."""
    return f"{100 * fraction:.3g}%"
