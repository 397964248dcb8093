"""The story of one channel in six steps, in words chosen by what its numbers are."""

from __future__ import annotations

import numpy as np

from app.content.grades import graded

TITLES = ("Rounding", "Outlier", "Balance", "Folding", "Time", "Picture")
SALIENT = 3.0  # times the median salience from which a channel is said to stand out


def rounding(
    channel: int, layer: str, channels: int, low: float, high: float, step: float, levels: int, of: int
) -> str:
    """Its values on the one grid of all channels."""
    return (
        f"Channel {channel} is one of {channels} that enter {layer}. One scale serves them all, from {low:.3g} to "
        f"{high:.3g}: {of} levels, {step:.3g} apart. Channel {channel}'s own range covers {levels} of them."
    )


def outlier(channel: int, salience: float, typical: float, levels: int, of: int, others: int) -> str:
    """What it costs the others, if it stands out at all."""
    times = salience / max(typical, 1e-12)
    if times < SALIENT:
        return (
            f"Channel {channel} does not stand out: it reaches {times:.2g} times as far as a typical channel, which "
            f"covers {others} of {of} levels. Pin another one in the bar to see what an outlier does."
        )
    return (
        f"It reaches {times:.2g} times as far as a typical channel. The grid is as wide as the widest needs, so the "
        f"typical channel covers {others} of {of} levels: all its values go to these few."
    )


def balance(
    channel: int, activation: tuple[float, float], weight: tuple[float, float], factor: float, others: tuple[int, int]
) -> str:
    """What CSB and SSC do to it and to the others."""
    change = "gains" if others[1] > others[0] else "loses" if others[1] < others[0] else "keeps its"
    told = "levels" if change == "keeps its" else f"levels, from {others[0]} to {others[1]}"
    return (
        f"CSB and SSC multiply channel {channel} of the activation by {factor:.3g} and divide the same channel of the "
        f"weight by it: {activation[0]:.3g} becomes {activation[1]:.3g}, {weight[0]:.3g} becomes {weight[1]:.3g}. The "
        f"typical channel {change} {told}."
    )


def unbalanced(why: str) -> str:
    """A layer that nothing balances."""
    reason = f" ({why})" if why else ""
    return f"This layer is rounded as it is: nothing in front of it can absorb a factor{reason}."


def folding(makers: tuple[str, ...], itself: bool, why: str, difference: float) -> str:
    """Where the factor goes, and that the product stays."""
    product = f"Measured on kept rows, the product has changed by {difference:.0e} of its size: 32-bit rounding."
    if itself:
        part = "what it can, and the rest is" if makers else "none of it, so it is"
        reason = f" ({why})" if why else ""
        return f"What stands in front takes in {part} multiplied as the input is rounded{reason}. {product}"
    return (
        "The factor is no step of its own: whatever makes the channel makes it smaller from now on, and whatever reads "
        f"it makes up for that. Both are weights, so it is done once, before the model runs. {product}"
    )


def time(channel: int, timesteps: np.ndarray, salience: np.ndarray, average: float) -> str:
    """How it changes on the way to the picture, and the one number that stands for all timesteps."""
    fold = float(salience.max()) / max(float(salience.min()), 1e-12)
    moves = f"varies {fold:.2g}-fold" if fold >= 1.1 else "hardly changes"
    high = timesteps[int(salience.argmax())]
    return (
        f"From noise to picture the salience of channel {channel} {moves}; it is largest at timestep {high:g}. SSC "
        f"makes one number of all timesteps, {average:.3g}, and one factor serves them all."
    )


def picture(name: str, bits: str, plain: float, balanced: float) -> str:
    """What rounding all layers does to a picture, with and without balancing, by sign."""
    gain = balanced - plain
    verdict = "hardly another" if abs(gain) < 0.3 else "closer" if gain > 0 else "further away"
    return (
        f"All layers together, {name} at {bits}, simulated: {graded(plain)}, without balancing; {graded(balanced)}, "
        f"with CSB and SSC: {verdict}."
    )
