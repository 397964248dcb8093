"""What Inspect shows of a layer, as the reader looks at it: the arrays that its sheet is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Quiet:
    """The reference, drawn beneath in grey: its name, and its numbers as its own switches leave them.

    activation, weight, channel_errors: (channel,), of all its channels; timesteps, rho, weights, errors: (t,).
    """

    name: str
    activation: np.ndarray
    weight: np.ndarray
    timesteps: np.ndarray
    rho: np.ndarray
    weights: np.ndarray
    errors: np.ndarray
    channel_errors: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Content:
    """Everything on the page of one layer.

    activation, weight: (channel,) before balancing, balanced: both after it, None where nothing is balanced; order:
    channel numbers from left to right; scale: "linear", "log" or "median"; stage: "both", "before" or "after";
    timesteps, rho, weights (t,); rho_balanced (t,) or None; salience (t, channel); errors, errors_over_time (t,) and
    channel_errors (channel,) by way of balancing, fractions; timestep: the one that is marked; channel: the pinned one
    or -1.
    """

    title: str
    activation: np.ndarray
    weight: np.ndarray
    balanced: tuple[np.ndarray, np.ndarray] | None
    order: np.ndarray
    timesteps: np.ndarray
    rho: np.ndarray
    rho_balanced: np.ndarray | None
    weights: np.ndarray
    salience: np.ndarray
    errors: Mapping[str, float]
    errors_over_time: Mapping[str, np.ndarray]
    channel_errors: Mapping[str, np.ndarray]
    timestep: float
    channel: int = -1
    scale: str = "linear"
    stage: str = "both"
    quiet: Quiet | None = None

    @property
    def beside(self) -> Quiet | None:
        """The reference where it has as many channels as the layer, so that one can be drawn over the other."""
        return self.quiet if self.quiet is not None and len(self.quiet.weight) == len(self.weight) else None
