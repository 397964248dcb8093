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
    "qkv": "makes query, key and value of the attention",
    "proj": "projects the attention's output",
    "fc1": "first layer of the feed-forward part",
    "fc2": "second layer of the feed-forward part",
}


def balancing_note(balanced: bool, itself: bool, why: str) -> str:
    """What is particular about balancing a layer; empty where something in front absorbs all of its factors."""
    if not balanced:
        return NOT_BALANCED
    if not itself:
        return ""
    reason = f" ({why})" if why else ""
    return f"Nothing in front absorbs all of this layer's factors{reason}: it multiplies its input as it rounds it."


def summary(model: str, layer: str, channels: int, strength: int, role: str, reads: tuple[str, ...]) -> str:
    """Which layer is on show, on which model."""
    dial = f" Salience x {strength}, function unchanged." if strength > 1 else ""
    read = f"read by {', '.join(reads)}" if role not in ROLE else ROLE[role]
    return f"**{layer}** of {model}, {channels} input channels: {read}.{dial}"


def heatmap_reading(timesteps: np.ndarray, salience: np.ndarray) -> str:
    """How much the salient channels of (t, channel) change over time."""
    top = int(salience.max(axis=0).argmax())
    fold = salience[:, top].max() / max(float(salience[:, top].min()), 1e-9)
    first, last = (set(np.argsort(-salience[t])[:_TOP]) for t in (0, -1))
    return (
        f"Channel **{top}** varies **{fold:.1f}-fold** over the timesteps. Of the {_TOP} most salient channels at "
        f"timestep {timesteps[0]:g}, {len(first & last)} are still among the {_TOP} most salient at {timesteps[-1]:g}."
    )


def error_reading(
    errors: Mapping[str, float], weight_bits: int, activation_bits: int, why: str = "", tokens: bool = False
) -> str:
    """What rounding does to the layer's output, and how much of it balancing takes away."""
    bits = f"W{weight_bits}A{activation_bits}" + " with a scale for every token" * tokens
    if max(errors.values()) < 1e-9:
        return "Weights and activations stay in float: nothing is rounded, so there is no error to show."
    text = f"At {bits} the layer's output is off by **{_percent(errors['none'])}** without balancing"
    if "csb+ssc" not in errors:
        return f"{text} (simulated). {balancing_note(False, False, why)}"
    best = errors["csb+ssc"]
    times = errors["none"] / best if best > 0 else 1.0
    verdict = f"{times:.2g}x less" if times >= 1 else f"{1 / times:.2g}x more"
    return f"{text}, {_percent(errors['csb'])} with CSB and **{_percent(best)}** with CSB + SSC: {verdict} (simulated)."


def _percent(fraction: float) -> str:
    """A fraction as a percentage with three significant digits."""
    return f"{100 * fraction:.3g}%"
