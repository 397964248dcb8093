"""What a reconstruction is asked to do: frozen, validated, without torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ptq4dit.config.base import Config, require_integer

Start = Literal["nearest", "gptq"]
Objective = Literal["samples", "guided"]


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig(Config):
    """How the rounding of a quantized model is improved, block by block. The default is the fast setting.

    That is the closed form alone, seconds for a block. With ``steps=500`` AdaRound polishes it: on a block of the demo
    model that leaves less error than 20,000 steps from nearest rounding, in a small part of their time
    (``assets/recipes/reconstruction_curve.py``). Quick as both are, they can learn from many more images, which is what
    they need.

    Attributes:
        start: ``"nearest"`` keeps the integers that the model has, ``"gptq"`` chooses them in closed form.
        steps: Adam steps of AdaRound for each block, from the start; 0 leaves it there.
        objective: ``"samples"`` takes every sample's error alike, ``"guided"`` adds the error of what classifier-free
            guidance makes of its two halves (`data.BlockData.views`); without guidance they are the same.
        batch_size: samples (one image at one timestep) of a step.
        learning_rate: of the soft rounding.
        activation_scales: learn static activation scales as well.
        activation_ends: the closed form searches both ends of a static activation range by themselves, its zero point
            with them, instead of its scale alone.
        activation_learning_rate: relative to the scale.
        regularization: weight of the term that drives the soft rounding to 0 or 1.
        warmup: share of the steps before the regularization starts, in [0, 1).
        beta: exponent of the regularization when it starts and at the end.
        damping: of GPTQ's Hessian, as a share of its mean diagonal.
        held_out: share of the images that is kept from training; the best state on them is the result, and never one
            that is worse than the start; once they show no gain for three tenths of the steps, the block is done. 0
            trains on all images for all steps and keeps the last state.
        images: images that the data are collected from.
        sampling_steps: steps in which these images are sampled; None for those of the calibration.
        samples: at most so many of the samples (one image at one timestep) are used, chosen at random; None for all.
        tokens: tokens behind a closed-form rounding, chosen at random among those of the samples; the default is
            several times as many as a layer of DiT-XL/2 has inputs.
        timesteps: timesteps at which each image is seen; None for those of the calibration.
        seed: chooses batches.
    """

    start: Start = "gptq"
    steps: int = 0
    objective: Objective = "samples"
    batch_size: int = 32
    learning_rate: float = 2e-2
    activation_scales: bool = True
    activation_ends: bool = False
    activation_learning_rate: float = 1e-3
    regularization: float = 1e-3
    warmup: float = 0.2
    beta: Sequence[float] = (20.0, 2.0)
    damping: float = 1e-2
    held_out: float = 0.125
    images: int = 16
    timesteps: int | None = None
    sampling_steps: int | None = None
    samples: int | None = None
    tokens: int = 2**15
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "beta", tuple(float(value) for value in self.beta))
        if self.start not in get_args(Start):
            raise ValueError(f"Expected start to be one of {get_args(Start)}, got {self.start!r}.")
        if self.objective not in get_args(Objective):
            raise ValueError(f"Expected objective to be one of {get_args(Objective)}, got {self.objective!r}.")
        for name in ("steps", "seed"):
            require_integer(name, getattr(self, name), at_least=0)
        for name in ("batch_size", "images", "tokens"):
            require_integer(name, getattr(self, name), at_least=1)
        for name in ("timesteps", "sampling_steps", "samples"):
            if getattr(self, name) is not None:
                require_integer(name, getattr(self, name), at_least=1)
        for name in ("learning_rate", "activation_learning_rate", "damping"):
            _require_number(name, getattr(self, name), above=True)
        _require_number("regularization", self.regularization, above=False)
        for name in ("warmup", "held_out"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise ValueError(f"Expected {name} to be a share of at least 0 and below 1, got {value!r}.")
        if len(self.beta) != 2 or not all(math.isfinite(value) and value > 1 for value in self.beta):
            raise ValueError(f"Expected beta to be two exponents above 1, at first and at the end, got {self.beta!r}.")

    @classmethod
    def paper(cls, **changes: Any) -> "ReconstructionConfig":
        """AdaRound as PTQ4DiT runs it (Section 5.1): 20,000 Adam steps of 32 samples from nearest rounding.

        Learning rates and the regularization are BRECQ's: 1e-3, 4e-4, beta from 20 to 2 after a fifth of the steps.
        """
        settings: dict[str, Any] = {
            "start": "nearest",
            "steps": 20_000,
            "learning_rate": 1e-3,
            "activation_learning_rate": 4e-4,
            "regularization": 1e-2,
            "held_out": 0.0,
            "images": 32,
        }
        return cls(**(settings | changes))


def _require_number(name: str, value: object, *, above: bool) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (above and value == 0):  # type: ignore[operator]
        raise ValueError(f"Expected {name} to be a number {'above' if above else 'of at least'} 0, got {value!r}.")
