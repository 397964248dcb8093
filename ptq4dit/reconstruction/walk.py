"""Go through a model's blocks, float and quantized side by side, holding the data of one block only."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ptq4dit.calibration.trajectories import Trajectories
from ptq4dit.model.families.family import Call
from ptq4dit.model.families.registry import family_of
from ptq4dit.model.forward import tell_clock
from ptq4dit.model.streamed import device_of
from ptq4dit.reconstruction.arguments import Arguments, joined
from ptq4dit.reconstruction.blocks import BlockPair, in_memory, pair_of
from ptq4dit.reconstruction.capture import call_of
from ptq4dit.reconstruction.data import CHUNK_TOKENS, BlockData
from ptq4dit.reconstruction.wiring import Wiring, find_wiring
from ptq4dit.sharing import shared

_MOST = 256
"""Samples passed at a time, at most."""


class Walk:
    """Iterates over (block, its data). What a block is when the next one is asked for goes on through it.

    A block is the transformer's own module, called with the arguments that the model passes. Those of the first one are
    recorded by running the model up to it; those of the others are what the block before returned or was given, where
    the model passes that on as it is (`find_wiring`), so that the work is linear in the number of blocks. Anything else
    is recorded by running the model up to that block. The data stay on the CPU; chunks of them visit the model's
    device.
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
            ValueError: if the data are not of the model's shape.
        """
        family = family_of(exact)
        if family.name == "dit":
            _require_latents(exact, data)
        self.exact, self.quantized, self.data, self.guidance = exact, quantized, data, guidance
        self.check, self.device = check, device_of(exact)
        self._companions = data.extremes()
        examples = [self._example(count, row) for count, row in ((2, 0), (3, len(data) - 1))]
        self._wiring = find_wiring(exact, family.blocks(exact), examples)
        with torch.no_grad():
            sites = family.sites(exact, examples[0][1])
        self.paths = [wiring.path for wiring in self._wiring]
        self.blocks = [pair_of(exact, quantized, wiring.path, sites) for wiring in self._wiring]

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def __iter__(self) -> Iterator[tuple[BlockPair, BlockData]]:
        inputs: dict[nn.Module, Arguments] = {}
        outputs: dict[nn.Module, tuple[Tensor, ...]] = {}
        for index, (wiring, pair) in enumerate(zip(self._wiring, self.blocks, strict=True)):
            for model in (self.exact, self.quantized):
                follows = index > 0 and wiring.follows
                before = inputs.get(model)
                inputs[model] = (
                    _followed(wiring, before, outputs[model])
                    if follows and before is not None
                    else self._recorded(model, wiring)
                )
            outputs[self.exact] = self._outputs(pair.exact, inputs[self.exact])
            block_data = BlockData(
                transformer=self.quantized,
                inputs=inputs[self.quantized],
                float_inputs=inputs[self.exact],
                targets=outputs[self.exact],
                timesteps=self.data.timesteps,
                guidance=self.guidance,
                check=self.check,
            )
            with in_memory(pair.block):
                yield pair, block_data
                if index + 1 < len(self) and self._wiring[index + 1].follows:
                    outputs[self.quantized] = self._outputs(pair.block, inputs[self.quantized])

    def _example(self, count: int, row: int) -> tuple[int, Call]:
        """A call with a sample so often, and how many it has with the companions."""
        rows = torch.cat([torch.full((count,), row), self._companions])
        return len(rows), self.data.call(rows, self.device)

    @torch.no_grad()
    def _recorded(self, transformer: nn.Module, wiring: Wiring) -> Arguments:
        """A block's arguments, by running the model up to it.

        A model that pads to the longest sample of a batch is given the longest and the shortest one every time: so it
        always pads alike, and all samples have one shape.
        """

        def record(rows: slice) -> tuple[Any, ...]:
            self.check()
            chosen = torch.arange(len(self.data))[rows]
            given = torch.cat([chosen, self._companions])
            tell_clock(self.quantized, self.data.timesteps[given])
            leaves, _ = call_of(transformer, wiring.path, self.data.call(given, self.device).on)
            seen = Arguments(leaves=tuple(leaves), rows=wiring.rows, structure=wiring.structure)
            return (seen.take(slice(0, len(chosen))) if len(self._companions) else seen).leaves

        parts = shared(self._chunks(_latent_tokens(self.data)), record)
        return joined([Arguments(leaves=tuple(part), rows=wiring.rows, structure=wiring.structure) for part in parts])

    @torch.no_grad()
    def _outputs(self, block: nn.Module, inputs: Arguments) -> tuple[Tensor, ...]:
        def pass_on(rows: slice) -> list[Tensor]:
            self.check()
            tell_clock(self.quantized, self.data.timesteps[rows])
            return [output.cpu() for output in inputs.take(rows, self.device).on(block)]

        parts = shared(self._chunks(_tokens(inputs)), pass_on)
        return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))

    def _chunks(self, tokens: int) -> list[slice]:
        size = max(1, min(CHUNK_TOKENS // tokens, _MOST))
        return [slice(start, start + size) for start in range(0, len(self.data), size)]


def _followed(wiring: Wiring, before: Arguments, outputs: tuple[Tensor, ...]) -> Arguments:
    """A block's arguments from those of the block before and what it returned."""
    kinds = {"output": outputs, "argument": before.leaves, "constant": wiring.constants}
    leaves = tuple(kinds[source[0]][source[1]] for source in wiring.sources if source is not None)
    return Arguments(leaves=leaves, rows=wiring.rows, structure=wiring.structure)


def _tokens(inputs: Arguments) -> int:
    """Tokens of one sample, over all streams that go in."""
    rows = [leaf for leaf, rows in zip(inputs.leaves, inputs.rows, strict=True) if rows and leaf.ndim > 2]
    return max(1, sum(leaf.numel() // leaf.shape[-1] for leaf in rows) // len(inputs))


def _latent_tokens(data: Trajectories) -> int:
    """About the tokens of one sample: pictures come in patches of two by two, other latents in tokens."""
    return max(1, data.positions // 4) if data.latents.ndim > 3 else data.positions


def _require_latents(transformer: nn.Module, data: Trajectories) -> None:
    config: Any = transformer.config
    expected = (int(config.in_channels), *2 * (int(config.sample_size),))
    if data.latents.shape[1:] != expected:
        raise ValueError(
            f"Expected latents of shape {expected}, got {tuple(data.latents.shape[1:])}. Collect from this model."
        )
    most, labels = int(config.num_embeds_ada_norm), data.labels
    if labels.is_floating_point() or int(labels.min()) < 0 or int(labels.max()) > most:
        raise ValueError(f"Expected class labels from 0 to {most}, got others in the data. Collect from this model.")
