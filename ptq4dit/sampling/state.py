"""Where sampling stands after a step."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class DenoiseState:
    """Where sampling stands after one step.

    Attributes:
        step: 1 to ``steps``.
        timestep: the scheduler's timestep at which the step began: 0 to 999, fractional for some schedulers.
        latents: after the step, as the pipeline holds them: ``(n, channels, height, width)``, packed into
            ``(n, tokens, values)`` for some families.
        clean: gives the clean latents that the model predicted as the step began; see `denoised`.
    """

    step: int
    timestep: int | float
    latents: Tensor
    clean: Callable[[], Tensor] = field(repr=False)

    @property
    def denoised(self) -> Tensor:
        """The clean latents that the model predicted as the step began, same shape as ``latents``.

        ``(x_t - s eps) / a`` for a model that predicts noise; see `schedule.clean_latents` for the others.

        Raises:
            ValueError: if the scheduler does not tell how it mixes latents and noise.
        """
        return self.clean()


def finite(states: Generator[DenoiseState, None, None]) -> Iterator[DenoiseState]:
    """The same states; a run that has left the numbers ends in one sentence.

    Raises:
        ValueError: at the first state with latents that are not finite.
    """
    with closing(states):
        for state in states:
            require_finite(state.latents, f"latents after step {state.step}")
            yield state


def require_finite(values: Tensor, what: str) -> None:
    """Refuse nan and infinity: nobody should take them for a picture.

    Raises:
        ValueError: if there are any.
    """
    if not bool(torch.isfinite(values).all()):
        raise ValueError(
            f"Expected finite {what}, got nan or infinity. The guidance scale is too large for this model, its type is "
            "too narrow (load it with dtype=torch.float32), or its weights are damaged."
        )
