"""What one block is given and should return, float and quantized, and how it is passed through in chunks."""

from collections.abc import Iterator
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
    """

    transformer: nn.Module
    inputs: Float[Tensor, "sample token width"]
    modulation: Float[Tensor, "sample 6 width"]
    float_inputs: Float[Tensor, "sample token width"]
    float_modulation: Float[Tensor, "sample 6 width"]
    targets: Float[Tensor, "sample token width"]
    timesteps: Int[Tensor, " sample"]

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
        )

    def chunks(self, device: torch.device) -> Iterator["BlockData"]:
        """All samples in turn, a few at a time, on a device."""
        size = max(1, CHUNK_TOKENS // self.inputs.shape[1])
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size), device)

    def tell(self) -> None:
        """Say to the quantized model's clock which timesteps the samples have."""
        tell_clock(self.transformer, self.timesteps)
