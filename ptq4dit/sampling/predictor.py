"""What a sampling run knows beforehand, computed once: the modulation of all its timesteps and classes."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from jaxtyping import Int
from torch import Tensor

from ptq4dit.model.forward import InTwoParts, Modulation, modulate, predict

_BYTES = 128 * 2**20
"""Modulation kept at a time; a longer run computes it in pieces."""


class Modulations:
    """The modulation of a batch at each timestep of a run: every (timestep, class) pair once, many of them at once."""

    def __init__(
        self, transformer: Any, timesteps: Sequence[int | float], labels: Int[Tensor, " row"], limit: int = _BYTES
    ) -> None:
        """Nothing is computed yet.

        Args:
            transformer: diffusers' ``DiTTransformer2DModel`` or a model that comes `InTwoParts`.
            timesteps: in the order in which they will be asked for.
            labels: class index of every row of the batch.
            limit: bytes of modulation to keep at a time; one timestep's always is.
        """
        self._transformer, self._timesteps = transformer, list(timesteps)
        self._labels, self._rows = labels.unique(return_inverse=True)
        config = transformer.config
        width = config.num_attention_heads * config.attention_head_dim
        row = width * (6 * config.num_layers + 2) * torch.finfo(transformer.dtype).bits // 8
        self._at_once = max(1, limit // (row * len(self._labels)))
        self._known: dict[int | float, Modulation] = {}

    def at(self, timestep: int | float) -> Modulation:
        """The batch's modulation at one timestep."""
        if timestep not in self._known:
            self._known = self._computed(self._from(timestep))
        return self._known[timestep]

    def _from(self, timestep: int | float) -> list[int | float]:
        if timestep not in self._timesteps:
            return [timestep]
        start = self._timesteps.index(timestep)
        return self._timesteps[start : start + self._at_once]

    def _computed(self, timesteps: list[int | float]) -> dict[int | float, Modulation]:
        count, device = len(self._labels), self._labels.device
        pairs = torch.tensor(timesteps, device=device).repeat_interleave(count), self._labels.repeat(len(timesteps))
        make = self._transformer
        result = make.modulate(*pairs) if isinstance(make, InTwoParts) else modulate(make, *pairs)
        return {step: result.take(self._rows + index * count) for index, step in enumerate(timesteps)}


def run_of(
    transformer: Any, timesteps: Sequence[int | float], labels: Int[Tensor, " row"], *, whole: bool = False
) -> Callable[[Tensor, int | float], Tensor]:
    """The transformer's output as a function of (latents, timestep) for a run whose classes are known.

    Equals calling the transformer, to float rounding.

    Args:
        transformer: diffusers' ``DiTTransformer2DModel`` or a model that comes `InTwoParts`.
        timesteps: in the order in which they will be asked for.
        labels: class index of every row of the batch.
        whole: call the transformer itself at each step, for who watches its calls or its modules. A transformer that
            is not diffusers' own as the run begins (hooks, a replaced forward, training) is called itself anyway.
    """

    def called(latents: Tensor, timestep: int | float) -> Tensor:
        times = torch.full((len(latents),), timestep, device=latents.device)
        return transformer(latents, timestep=times, class_labels=labels).sample

    @cache  # asked at the first step, and not again
    def way() -> Callable[[Tensor, int | float], Tensor]:
        offered = isinstance(transformer, InTwoParts)
        if whole or not (offered or is_plain(transformer)):
            return called
        known = Modulations(transformer, timesteps, labels)
        second = transformer.predict if offered else partial(predict, transformer)
        return lambda latents, timestep: second(latents, known.at(timestep))

    return lambda latents, timestep: way()(latents, timestep)


def is_plain(transformer: Any) -> bool:
    """Whether a transformer is diffusers' own, in evaluation, and nothing but its clock listens to its modules."""
    if type(transformer) is not DiTTransformer2DModel or transformer.training:
        return False
    return all(
        not module._forward_hooks
        and all(getattr(hook, "changes_nothing", False) for hook in module._forward_pre_hooks.values())
        and "forward" not in vars(module)
        for module in transformer.modules()
    )
