"""The interface of a family: sites, blocks, and how a family's file describes them."""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ptq4dit.model.families.absorber import Absorber, Modulation, absorbing_paths
from ptq4dit.model.families.plain import require_whole, shape_of

Gate = tuple[str, int, int]
"""(path of a linear, first row, end row)."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One input and the linears that read it.

    Attributes:
        name: in model order and stable: ``"blocks.3.fc1"``, ``"blocks.3.context.qkv"``, ``"single.7.qkv_mlp"``.
        role: the last word of the name.
        paths: the linears (or 1x1 convolutions, whose input is ``(batch, channel, height, width)``) in the transformer.
        absorber: what takes the balancing factor in.
        block: path of the repeated block that it is in; None outside.
        tied_to: the site whose factor this one must share; None for a site that others may be tied to.
        gate: the rows of a linear that make what the output of this site's linears is multiplied by: its square says
            how much an error there counts. None where nothing so plain does.
    """

    name: str
    role: str
    paths: tuple[str, ...]
    absorber: Absorber
    block: str | None
    tied_to: str | None = None
    gate: Gate | None = None


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a transformer: ``transformer(*args, **kwargs)``."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def on(self, transformer: nn.Module) -> Any:
        """Run it, with copies of the arguments: some forwards take things out of the dictionaries they are given."""
        return transformer(*copy.deepcopy(self.args), **copy.deepcopy(dict(self.kwargs)))


@dataclass(frozen=True, kw_only=True)
class Block:
    """One repeated block, as a family's file sees it: paths are relative to it.

    Attributes:
        stack: name of its stack in site names, ``"blocks"``.
        index: its place in the stack.
        path: where it is in the transformer, ``"transformer_blocks.3"``.
        module: the block.
        transformer: the model around it.
    """

    stack: str
    index: int
    path: str
    module: nn.Module
    transformer: nn.Module

    @property
    def name(self) -> str:
        """How its sites' names begin: ``"blocks.3"``."""
        return f"{self.stack}.{self.index}"

    def at(self, *paths: str) -> tuple[str, ...]:
        """Paths in the transformer."""
        return tuple(f"{self.path}.{path}" for path in paths)

    def shape(self, linear: str) -> tuple[int, int]:
        """(rows, columns) of a linear or convolution."""
        return shape_of(self.transformer, f"{self.path}.{linear}")

    def site(
        self,
        place: str,
        paths: Iterable[str],
        absorber: Absorber,
        tied_to: str | None = None,
        gate: Gate | None = None,
    ) -> Site:
        """The site ``"<block>.<place>"``, whose role is the last word of ``place``."""
        return Site(
            name=f"{self.name}.{place}",
            role=place.rsplit(".", 1)[-1],
            paths=self.at(*paths),
            absorber=absorber,
            block=self.path,
            tied_to=tied_to,
            gate=gate,
        )

    def gate(self, linear: str, chunk: int, *, chunks: int) -> Gate:
        """The gate that one of equal ``chunks`` of the output of ``linear`` is; see `Site`."""
        width = self.shape(linear)[0] // chunks
        return f"{self.path}.{linear}", chunk * width, (chunk + 1) * width

    def modulation(self, linear: str, *, shift: int | None, scale: int, chunks: int) -> Modulation:
        """The modulation by ``linear``, whose output is cut into ``chunks``: the numbers of shift and scale."""
        width = self.shape(linear)[0] // chunks
        return Modulation(
            linear=f"{self.path}.{linear}",
            shift=None if shift is None else (shift * width, (shift + 1) * width),
            scale=(scale * width, (scale + 1) * width),
        )


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A list of repeated blocks.

    Attributes:
        name: in site names.
        path: of the ``nn.ModuleList`` in the transformer.
        sites: block -> its sites, in the order in which a forward meets them.
        optional: models without it are of the family too.
    """

    name: str
    path: str
    sites: Callable[[Block], Iterable[Site]]
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """All that is particular to an architecture.

    Attributes:
        name: for people and files.
        classes: diffusers classes, by name; a subclass belongs to the family of its base.
        stacks: its lists of blocks, in the order of a forward.
        balances_inputs: what nothing in front absorbs is balanced too, as it is rounded, unless a config says no.
        left: ending of a linear's path inside a block -> why it is no site.
    """

    name: str
    classes: tuple[str, ...]
    stacks: tuple[Stack, ...]
    left: Mapping[str, str]
    balances_inputs: bool = True

    def sites(self, transformer: nn.Module, call: Call | None = None) -> dict[str, Site]:
        """Every site by name, in model order.

        Args:
            transformer: a float model of this family.
            call: not needed here; see the generic family.

        Raises:
            ValueError: if the model is not built as the family's file says, has fused projections or an adapter.
        """
        require_whole(transformer)
        try:
            sites = [site for stack, block in self._blocks(transformer) for site in stack.sites(block)]
            for path in (path for site in sites for path in (*site.paths, *absorbing_paths(site.absorber))):
                transformer.get_submodule(path)
        except AttributeError as error:
            raise ValueError(
                f"Expected a {self.name} transformer as diffusers builds it, got a {type(transformer).__name__} that "
                f"is built differently: {error}. Give its class another name, and the generic family takes it."
            ) from None
        return {site.name: site for site in sites}

    def blocks(self, transformer: nn.Module) -> list[str]:
        """Paths of the repeated blocks, the units of reconstruction, in the order of a forward."""
        return [block.path for _, block in self._blocks(transformer)]

    def _blocks(self, transformer: nn.Module) -> list[tuple[Stack, Block]]:
        return [
            (
                stack,
                Block(stack=stack.name, index=i, path=f"{stack.path}.{i}", module=module, transformer=transformer),
            )
            for stack in self.stacks
            if not (stack.optional and getattr(transformer, stack.path, None) is None)
            for i, module in enumerate(transformer.get_submodule(stack.path).children())
        ]
