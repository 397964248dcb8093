"""One block in its two forms, float and quantized, and the layers of it whose rounding is learned."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ptq4dit.model.families.family import Site
from ptq4dit.model.streamed import device_of, fetch_buffers, is_streamed, stream_buffers
from ptq4dit.quantized.linear import QuantizedLinear


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Layers of a block that share an input.

    Attributes:
        names: their paths inside the block.
        gate: (path inside the block, first row, end row) of the linear that makes what their output is multiplied by,
            or None.
    """

    names: tuple[str, ...]
    gate: tuple[str, int, int] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockPair:
    """A transformer's block, float and quantized; both are called with the arguments that the model passes.

    Attributes:
        exact: the float block, re-parameterized as the quantized one is.
        block: the quantized block.
        stages: its layers by input, in the order of a forward.
    """

    exact: nn.Module
    block: nn.Module
    stages: tuple[Stage, ...]

    @property
    def layers(self) -> dict[str, QuantizedLinear]:
        """The quantized layers of all stages, by path inside the block."""
        found = {name: self.block.get_submodule(name) for stage in self.stages for name in stage.names}
        return {name: layer for name, layer in found.items() if isinstance(layer, QuantizedLinear)}

    @property
    def device(self) -> torch.device:
        """Where the block is."""
        return device_of(self.exact)


def pair_of(exact: nn.Module, quantized: nn.Module, path: str, sites: Mapping[str, Site]) -> BlockPair:
    """The block at a path of both transformers, with the sites that are in it."""
    inside = [site for site in sites.values() if site.block == path]
    stages = tuple(
        Stage(names=tuple(name.removeprefix(f"{path}.") for name in site.paths), gate=_gate(path, site))
        for site in inside
    )
    return BlockPair(exact=exact.get_submodule(path), block=quantized.get_submodule(path), stages=stages)


@contextmanager
def in_memory(block: nn.Module) -> Iterator[None]:
    """A ``with`` block in which a block's quantized layers are in memory, those whose integers are on disk.

    What they are at its end goes back to where they were.
    """
    streamed = [layer for layer in block.modules() if isinstance(layer, QuantizedLinear) and is_streamed(layer)]
    places = [(layer, device_of(layer), fetch_buffers(layer)) for layer in streamed]
    try:
        for layer in streamed:
            layer.restore()
        yield
    finally:
        for layer, device, folder in places:
            layer.release()
            stream_buffers(layer, folder, device)


def _gate(block: str, site: Site) -> tuple[str, int, int] | None:
    """The site's gate, if the block itself makes it."""
    if site.gate is None or not site.gate[0].startswith(f"{block}."):
        return None
    return (site.gate[0].removeprefix(f"{block}."), *site.gate[1:])
