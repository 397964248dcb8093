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


def summary(layer: str, channels: int, timestep: int, strength: int) -> str:
    """Which layer is on show, at which timestep, on which model."""
    role = layer.rsplit(".", 1)[1]
    dial = f"Salience x {strength}, function unchanged. " if strength > 1 else ""
    return (
        f"**{layer}**, {channels} input channels: {ROLE[role]}. {dial}Nearest calibrated timestep: **{timestep}** "
        "(999 is pure noise, 0 the picture)."
    )


def channels_reading(
    activation: np.ndarray, weight: np.ndarray, balanced: tuple[np.ndarray, np.ndarray] | None, role: str
) -> str:
    """How far the most salient activation channel (channel,) stands out, and what balancing leaves of it."""
    top = int(activation.argmax())
    rank = int((weight > weight[top]).sum()) + 1
    text = (
        f"Channel **{top}** is the most salient activation: **{_ratio(activation):.1f}x** the median. "
        f"Among the weight's {len(weight)} channels it ranks {rank}."
    )
    if balanced is not None:
        text += (
            f" Balanced, the largest channel is {_ratio(balanced[0]):.1f}x the median in the activation "
            f"and {_ratio(balanced[1]):.1f}x in the weight."
        )
    return text + (f" {NOT_BALANCED}" if role == "fc2" else "")


def timesteps_reading(
    timesteps: np.ndarray, rho: np.ndarray, weights: np.ndarray, at: int, csb: bool, ssc: bool
) -> str:
    """Where rho (t,) is low and high, and which timesteps the balancing listens to."""
    low, high = int(rho.argmin()), int(rho.argmax())
    text = (
        f"rho is **{_signed(rho[at])}** at timestep {timesteps[at]}; over time it runs from {_signed(rho[low])} "
        f"(timestep {timesteps[low]}) to {_signed(rho[high])} (timestep {timesteps[high]}). Low means complementary. "
    )
    if csb and ssc:
        most = weights[low] / weights[high]
        return text + f"SSC lets timestep {timesteps[low]} count {most:.1f}x as much as timestep {timesteps[high]}."
    if csb:
        return text + f"Without SSC, CSB looks at the middle timestep only ({timesteps[len(timesteps) // 2]})."
    return text + "Nothing is balanced, so no timestep counts."


def heatmap_reading(timesteps: np.ndarray, salience: np.ndarray) -> str:
    """How much the salient channels of (t, channel) change over time."""
    top = int(salience.max(axis=0).argmax())
    fold = salience[:, top].max() / max(float(salience[:, top].min()), 1e-9)
    first, last = (set(np.argsort(-salience[t])[:_TOP]) for t in (0, -1))
    return (
        f"Channel **{top}** varies **{fold:.1f}-fold** over the timesteps. Of the {_TOP} most salient channels at "
        f"timestep {timesteps[0]}, {len(first & last)} are still among the {_TOP} most salient at {timesteps[-1]}."
    )


def complementarity_reading(activation: np.ndarray, weight: np.ndarray) -> str:
    """How many of the most salient activation channels are also salient in the weight."""
    both = set(np.argsort(-activation)[:_TOP]) & set(np.argsort(-weight)[:_TOP])
    return (
        f"Of the {_TOP} most salient activation channels, **{len(both)}** "
        f"{'is' if len(both) == 1 else 'are'} also among the {_TOP} most salient weight channels."
    )


def error_reading(errors: Mapping[str, float], weight_bits: int, activation_bits: int) -> str:
    """What rounding does to the layer's output, and how much of it balancing takes away."""
    bits = f"W{weight_bits}A{activation_bits}"
    text = f"At {bits} the layer's output is off by **{_percent(errors['none'])}** without balancing"
    if "csb+ssc" not in errors:
        return f"{text} (simulated). {NOT_BALANCED}"
    best = errors["csb+ssc"]
    times = errors["none"] / best if best > 0 else 1.0
    verdict = f"{times:.2g}x less" if times >= 1 else f"{1 / times:.2g}x more"
    return f"{text}, {_percent(errors['csb'])} with CSB and **{_percent(best)}** with CSB + SSC: {verdict} (simulated)."


def error_over_time_reading(timesteps: np.ndarray, errors: Mapping[str, np.ndarray], chosen: str) -> str:
    """When the chosen variant's error (t,) is worst, and when it is least."""
    values = errors[chosen]
    worst, best = int(values.argmax()), int(values.argmin())
    return (
        f"As switched, the error is largest at timestep **{timesteps[worst]}** ({_percent(values[worst])}) and "
        f"smallest at {timesteps[best]} ({_percent(values[best])}). One scale serves all timesteps (simulated)."
    )


def _ratio(values: np.ndarray) -> float:
    """The largest value over the median."""
    return float(values.max() / max(float(np.median(values)), 1e-12))


def _signed(value: float) -> str:
    """A number with two decimals, never a negative zero."""
    return f"{round(float(value), 2) + 0.0:.2f}"


def _percent(fraction: float) -> str:
    """A fraction as a percentage with three significant digits."""
    return f"{100 * fraction:.3g}%"
