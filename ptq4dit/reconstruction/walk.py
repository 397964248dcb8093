"""Go through a model's blocks, float and quantized side by side, holding the data of one block only."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ptq4dit.reconstruction.blocks import BlockParts, modulation, tell_clock
from ptq4dit.reconstruction.data import CHUNK_TOKENS, BlockData
from ptq4dit.trajectories import Trajectories


class Walk:
    """Iterates over (quantized block, its data). What a block is when the next one is asked for goes on through it.

    The data stay on the CPU; chunks of them visit the model's device.
    """

    def __init__(
        self,
        exact: nn.Module,
        quantized: nn.Module,
        data: Trajectories,
        guidance: float = 1.0,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            exact: the float transformer, re-parameterized as the quantized one is.
            quantized: the quantized transformer.
            data: what the model is given.
            guidance: above 1 if the data are pairs, see `BlockData`.
            check: called before every chunk that passes a block, here and in the data; may raise to stop.

        Raises:
            ValueError: if the latents are not of the model's shape.
        """
        expected = (int(exact.config.in_channels), *2 * (int(exact.config.sample_size),))  # type: ignore[union-attr, arg-type]
        if data.latents.shape[1:] != expected:
            raise ValueError(
                f"Expected latents of shape {expected}, got {tuple(data.latents.shape[1:])}. Collect from this model."
            )
        self.exact, self.quantized, self.data, self.guidance, self.check = exact, quantized, data, guidance, check
        self.device = next(exact.parameters()).device

    def __len__(self) -> int:
        """Number of blocks."""
        return len(list(self.quantized.get_submodule("transformer_blocks").children()))

    def exact_block(self, index: int) -> nn.Module:
        """A block of the float model."""
        return self.exact.get_submodule(f"transformer_blocks.{index}")

    def __iter__(self) -> Iterator[tuple[BlockParts, BlockData]]:
        float_inputs, inputs = self._embedded(self.exact), self._embedded(self.quantized)
        for index in range(len(self)):
            own = self.quantized.get_submodule(f"transformer_blocks.{index}")
            block, like = BlockParts(own), BlockParts(self.exact_block(index))
            float_modulation, own_modulation = self._modulation(self.exact_block(index)), self._modulation(own)
            targets = self._outputs(like, float_inputs, float_modulation)
            yield (
                block,
                BlockData(
                    transformer=self.quantized,
                    inputs=inputs,
                    modulation=own_modulation,
                    float_inputs=float_inputs,
                    float_modulation=float_modulation,
                    targets=targets,
                    timesteps=self.data.timesteps,
                    guidance=self.guidance,
                    check=self.check,
                ),
            )
            if index + 1 < len(self):
                float_inputs, inputs = targets, self._outputs(block, inputs, own_modulation)

    @torch.no_grad()
    def _embedded(self, transformer: nn.Module) -> Tensor:
        embed, parts = transformer.get_submodule("pos_embed"), []
        for rows in self._chunks(1):
            tell_clock(self.quantized, self.data.timesteps[rows])
            parts.append(embed(self.data.latents[rows].to(self.device)).cpu())
        return torch.cat(parts)

    def _modulation(self, block: nn.Module) -> Tensor:
        parts = []
        for rows in self._chunks(1):
            timesteps, labels = self.data.timesteps[rows].to(self.device), self.data.labels[rows].to(self.device)
            tell_clock(self.quantized, timesteps)
            parts.append(modulation(block, timesteps, labels).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def _outputs(self, block: BlockParts, hidden: Tensor, own_modulation: Tensor) -> Tensor:
        parts = []
        for rows in self._chunks(hidden.shape[1]):
            tell_clock(self.quantized, self.data.timesteps[rows])
            parts.append(block(hidden[rows].to(self.device), own_modulation[rows].to(self.device)).cpu())
        return torch.cat(parts)

    def _chunks(self, tokens: int) -> Iterator[slice]:
        size = max(1, min(CHUNK_TOKENS // tokens, 256))
        for start in range(0, len(self.data), size):
            self.check()
            yield slice(start, start + size)
