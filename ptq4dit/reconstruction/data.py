"""What one block is given and should return, float and quantized, and how it is passed through in chunks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from ptq4dit.model.forward import tell_clock
from ptq4dit.reconstruction.arguments import Arguments, Rows, taken
from ptq4dit.sharing import shared

CHUNK_TOKENS = 4096
"""Tokens passed at a time: enough for fast products, few enough that a chunk's activations stay small."""


@dataclass(kw_only=True, eq=False)
class BlockData:
    """Arguments of one block for all samples, on the CPU.

    Attributes:
        transformer: the quantized model, whose clock is told the timesteps.
        inputs: what the quantized block is given.
        float_inputs: what the float block is given.
        targets: what the float block makes of them: all tensors that it returns, ``(sample, ..., channel)``.
        timesteps: of each sample.
        guidance: above 1, the samples are pairs, one behind the other: class, null class, class, ...; see `views`.
        check: called before every chunk; may raise to stop.
    """

    transformer: nn.Module
    inputs: Arguments
    float_inputs: Arguments
    targets: tuple[Float[Tensor, "..."], ...]
    timesteps: Shaped[Tensor, " sample"]
    guidance: float = 1.0
    check: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.timesteps)

    @property
    def tokens(self) -> int:
        """Tokens of one sample, over all streams."""
        return sum(target.numel() // target.shape[-1] for target in self.targets) // len(self)

    def take(self, rows: Rows, device: torch.device | None = None) -> "BlockData":
        """Some of the samples, moved to a device if one is given."""
        targets = tuple(taken(target, rows, len(target) // len(self)) for target in self.targets)
        timesteps = self.timesteps[rows]
        if device is not None:
            targets, timesteps = tuple(target.to(device) for target in targets), timesteps.to(device)
        return replace(
            self,
            inputs=self.inputs.take(rows, device),
            float_inputs=self.float_inputs.take(rows, device),
            targets=targets,
            timesteps=timesteps,
        )

    @property
    def group(self) -> int:
        """Samples that stay together: 2 if they are pairs."""
        return 2 if self.guidance > 1 else 1

    def draw(self, rows: Shaped[Tensor, " sample"], count: int, generator: torch.Generator) -> Shaped[Tensor, " drawn"]:
        """About ``count`` of these rows, chosen at random with repetition; pairs stay pairs."""
        groups = rows.unflatten(0, (-1, self.group))
        return groups[torch.randint(len(groups), (max(1, count // self.group),), generator=generator)].flatten()

    def views(self, values: Float[Tensor, "sample ..."]) -> Float[Tensor, "view ..."]:
        """What errors are measured on: the samples, and of pairs also what guidance makes of them.

        ``g v_class - (g - 1) v_null`` is how the sampler uses the two halves. What they have in common counts once
        there, what tells the class from no class ``g`` times: an error in it is the error that a picture shows.
        """
        if self.guidance <= 1:
            return values
        values = values.unflatten(0, (len(self), -1)).flatten(1, 2) if len(values) > len(self) else values
        guided = self.guidance * values[0::2] - (self.guidance - 1) * values[1::2]
        return torch.cat([values, guided])

    def view_weights(self, weights: Float[Tensor, " sample"]) -> Float[Tensor, " view"]:
        """A weight of every view from those of the samples; a pair's is their mean."""
        return weights if self.guidance <= 1 else torch.cat([weights, (weights[0::2] + weights[1::2]) / 2])

    def slices(self) -> list[slice]:
        """All samples in turn, a few at a time."""
        size = max(1, CHUNK_TOKENS // self.tokens // self.group) * self.group
        return [slice(start, start + size) for start in range(0, len(self), size)]

    def chunk(self, rows: slice, device: torch.device) -> "BlockData":
        """Some of the samples on a device, unless somebody asks to stop; the clock is told their timesteps."""
        self.check()
        some = self.take(rows, device)
        some.tell()
        return some

    def each(self, device: torch.device, make: Callable[["BlockData", slice], Sequence[Any]]) -> Iterator[list[Any]]:
        """What ``make`` makes of every chunk and its rows, in their order; processes share the chunks."""
        return shared(self.slices(), lambda rows: make(self.chunk(rows, device), rows))

    def tell(self) -> None:
        """Say to the quantized model's clock which timesteps the samples have."""
        tell_clock(self.transformer, self.timesteps)
