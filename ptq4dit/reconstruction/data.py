"""What one block is given and should return, float and quantized, and how it is passed through in chunks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ptq4dit.reconstruction.blocks import tell_clock

CHUNK_TOKENS = 4096
"""Tokens passed at a time: enough for fast products, few enough that a chunk's activations stay small."""


@dataclass(kw_only=True, eq=False)
class BlockData:
    """Inputs of one block, ``(sample, token, width)`` and modulations ``(sample, 6, width)``, on the CPU.

    Attributes:
        transformer: the quantized model, whose clock is told the timesteps.
        inputs, modulation: what the quantized block is given.
        float_inputs, float_modulation: what the float block is given.
        targets: what the float block makes of them.
        timesteps: of each sample.
        guidance: above 1, the samples are pairs, one behind the other: class, null class, class, ...; see `views`.
        check: called before every chunk; may raise to stop.
    """

    transformer: nn.Module
    inputs: Float[Tensor, "sample token width"]
    modulation: Float[Tensor, "sample 6 width"]
    float_inputs: Float[Tensor, "sample token width"]
    float_modulation: Float[Tensor, "sample 6 width"]
    targets: Float[Tensor, "sample token width"]
    timesteps: Int[Tensor, " sample"]
    guidance: float = 1.0
    check: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.inputs)

    def take(
        self, rows: Int[Tensor, " chosen"] | Bool[Tensor, " sample"] | slice, device: object = None
    ) -> "BlockData":
        """Some of the samples, moved to a device if one is given."""

        def part(tensor: Tensor) -> Tensor:
            return tensor[rows] if device is None else tensor[rows].to(device)  # type: ignore[call-overload]

        return BlockData(
            transformer=self.transformer,
            inputs=part(self.inputs),
            modulation=part(self.modulation),
            float_inputs=part(self.float_inputs),
            float_modulation=part(self.float_modulation),
            targets=part(self.targets),
            timesteps=part(self.timesteps),
            guidance=self.guidance,
            check=self.check,
        )

    @property
    def group(self) -> int:
        """Samples that stay together: 2 if they are pairs."""
        return 2 if self.guidance > 1 else 1

    def draw(self, rows: Int[Tensor, " sample"], count: int, generator: torch.Generator) -> Int[Tensor, " drawn"]:
        """About ``count`` of these rows, chosen at random with repetition; pairs stay pairs."""
        groups = rows.unflatten(0, (-1, self.group))
        return groups[torch.randint(len(groups), (max(1, count // self.group),), generator=generator)].flatten()

    def views(self, values: Float[Tensor, "sample token channel"]) -> Float[Tensor, "view token channel"]:
        """What errors are measured on: the samples, and of pairs also what guidance makes of them.

        ``g v_class - (g - 1) v_null`` is how the sampler uses the two halves. What they have in common counts once
        there, what tells the class from no class ``g`` times: an error in it is the error that a picture shows.
        """
        if self.guidance <= 1:
            return values
        guided = self.guidance * values[0::2] - (self.guidance - 1) * values[1::2]
        return torch.cat([values, guided])

    def view_weights(self, weights: Float[Tensor, " sample"]) -> Float[Tensor, " view"]:
        """A weight of every view from those of the samples; a pair's is their mean."""
        return weights if self.guidance <= 1 else torch.cat([weights, (weights[0::2] + weights[1::2]) / 2])

    def gates(self, gate: int | None) -> Float[Tensor, " sample"]:
        """How much each sample's tokens weigh: the mean square of that chunk of its modulation, 1 without one."""
        if gate is None:
            return torch.ones(len(self), device=self.inputs.device)
        return self.float_modulation[:, gate].float().square().mean(1)

    def chunks(self, device: torch.device) -> Iterator["BlockData"]:
        """All samples in turn, a few at a time, on a device."""
        size = max(1, CHUNK_TOKENS // self.inputs.shape[1] // self.group) * self.group
        for start in range(0, len(self), size):
            self.check()
            yield self.take(slice(start, start + size), device)

    def tell(self) -> None:
        """Say to the quantized model's clock which timesteps the samples have."""
        tell_clock(self.transformer, self.timesteps)
