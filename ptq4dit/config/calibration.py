"""What a calibration is asked to do: frozen, validated, JSON there and back."""

import math
from dataclasses import dataclass
from numbers import Real

from ptq4dit.config.base import Config, require_integer


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig(Config):
    """How activations are observed.

    Attributes:
        timesteps: how many timesteps are observed, spread evenly over the sampling steps.
        samples_per_timestep: images sampled; each one is observed at every observed timestep.
        guidance_scale: classifier-free guidance while sampling; 1.0 means none (no unconditional half is seen).
        seed: chooses classes, noise and the kept token rows.
        steps: sampling steps of each trajectory.
        rows_per_timestep: token rows kept per layer and timestep, drawn uniformly from all that passed.
        first_sample: index of the first image; processes that share a calibration take disjoint ranges of images.
    """

    timesteps: int = 25
    samples_per_timestep: int = 32
    guidance_scale: float = 4.0
    seed: int = 0
    steps: int = 50
    rows_per_timestep: int = 8
    first_sample: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("timesteps", "samples_per_timestep", "steps", "rows_per_timestep"):
            require_integer(name, getattr(self, name), at_least=1)
        for name in ("seed", "first_sample"):
            require_integer(name, getattr(self, name), at_least=0)
        if self.timesteps > self.steps:
            raise ValueError(
                f"Expected at most as many timesteps as sampling steps, got timesteps={self.timesteps} and "
                f"steps={self.steps}. Raise steps or lower timesteps."
            )
        require_guidance(self.guidance_scale)


def require_guidance(guidance_scale: float) -> None:
    """Refuse a guidance scale that is not a finite number of at least 1."""
    number = isinstance(guidance_scale, Real) and not isinstance(guidance_scale, bool)
    if not number or not math.isfinite(guidance_scale) or guidance_scale < 1:
        raise ValueError(f"Expected a finite guidance_scale of at least 1.0 (1.0 means none), got {guidance_scale!r}.")
