"""What a calibration and a quantization are asked to do: frozen, validated, JSON there and back."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

RangeMethod = Literal["minmax", "mse"]
ConfigT = TypeVar("ConfigT", bound="_Config")
FLOAT_BITS = 16
"""The number of bits that means: leave this operand in float."""


@dataclass(frozen=True, kw_only=True)
class _Config:
    def to_json(self) -> str:
        """All fields as one JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls: type[ConfigT], text: str) -> ConfigT:
        """The config that `to_json` wrote.

        Raises:
            ValueError: if a field is unknown or its value is refused.
        """
        values: dict[str, Any] = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"Expected only the fields {sorted(known)} in {cls.__name__}, got also {unknown}.")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig(_Config):
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
        for name in ("timesteps", "samples_per_timestep", "steps", "rows_per_timestep"):
            _require_integer(name, getattr(self, name), at_least=1)
        for name in ("seed", "first_sample"):
            _require_integer(name, getattr(self, name), at_least=0)
        if self.timesteps > self.steps:
            raise ValueError(
                f"Expected at most as many timesteps as sampling steps, got timesteps={self.timesteps} and "
                f"steps={self.steps}. Raise steps or lower timesteps."
            )
        require_guidance(self.guidance_scale)


@dataclass(frozen=True, kw_only=True)
class QuantConfig(_Config):
    """How a DiT is quantized. ``csb=False, ssc=False`` is plain round-to-nearest.

    Attributes:
        weight_bits: 2 to 8, or 16 to leave weights in float.
        activation_bits: 2 to 8, or 16 to leave activations in float.
        csb: Channel-wise Salience Balancing (PTQ4DiT eqs. 3-7).
        ssc: Spearman's rho-guided Salience Calibration (eqs. 10, 11); without it CSB uses the middle timestep.
        method: the recipe; only ``"ptq4dit"`` so far.
        weight_range: ``"minmax"``, or ``"mse"`` to clip every output channel for the least squared error.
        activation_range: ``"minmax"`` over all timesteps, or ``"mse"`` over the kept token rows.
        reconstruction: None; block-wise reconstruction is not available yet.
        backend: ``"simulated"``; integer execution is not available yet.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    csb: bool = True
    ssc: bool = True
    method: str = "ptq4dit"
    weight_range: RangeMethod = "mse"
    activation_range: RangeMethod = "minmax"
    reconstruction: None = None
    backend: str = "simulated"

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits"):
            _require_bits(name, getattr(self, name))
        for name in ("weight_range", "activation_range"):
            _require_choice(name, getattr(self, name), ("minmax", "mse"))
        _require_choice("method", self.method, ("ptq4dit",))
        if self.ssc and not self.csb:
            raise ValueError(
                "ssc=True has nothing to act on with csb=False: SSC only chooses the salience that CSB balances with. "
                "Set csb=True, or ssc=False as well."
            )
        if self.reconstruction is not None:
            raise ValueError(f"reconstruction={self.reconstruction!r} is not available yet. Leave it at None.")
        if self.backend == "integer":
            raise ValueError('backend="integer" is not available yet. Use backend="simulated".')
        _require_choice("backend", self.backend, ("simulated",))

    @property
    def label(self) -> str:
        """Short name such as ``"W4A8"``."""
        return f"W{self.weight_bits}A{self.activation_bits}"


def require_guidance(guidance_scale: float) -> None:
    """Refuse a guidance scale that is not a finite number of at least 1."""
    if not math.isfinite(guidance_scale) or guidance_scale < 1:
        raise ValueError(f"Expected a finite guidance_scale of at least 1.0 (1.0 means none), got {guidance_scale}.")


def _require_integer(name: str, value: object, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"Expected {name} to be an integer of at least {at_least}, got {value!r}.")


def _require_bits(name: str, value: object) -> None:
    if not isinstance(value, int) or not (2 <= value <= 8 or value == FLOAT_BITS):
        raise ValueError(f"Expected {name} to be 2 to 8, or {FLOAT_BITS} to leave it in float, got {value!r}.")


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Expected {name} to be one of {choices}, got {value!r}.")
