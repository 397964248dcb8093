"""How the ranges of attentions are named in a calibration, and what folding a factor makes of their values."""

from collections.abc import Iterator, Mapping

from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.model.families.absorber import Rows, Split
from ptq4dit.model.families.family import Site
from ptq4dit.model.families.registry import family_of


def range_name(transformer: nn.Module, attention: str) -> str:
    """How the names of an attention's ranges begin: with its path; of a DiT, which has one a block, ``"blocks.3"``."""
    family = family_of(transformer)
    if family.name != "dit":
        return attention
    blocks = {f"{block}.attn1": f"blocks.{index}" for index, block in enumerate(family.blocks(transformer))}
    return blocks.get(attention, attention)


def value_factors(
    transformer: nn.Module, factors: Mapping[str, Tensor], sites: Mapping[str, Site]
) -> dict[str, Float[Tensor, " channel"]]:
    """What folding factors multiplies the values of attentions by, channel by channel, by the name of their range.

    A factor of an output projection is absorbed by the rows that make v; q, k and the softmax stay what they are.

    Args:
        transformer: the model.
        factors: site name -> ``b_x``, of all channels of the projection's input.
        sites: those of the model.
    """
    return {
        f"{range_name(transformer, attention)}.v": factor
        for name, whole in factors.items()
        for attention, factor in _of_attentions(sites[name], whole)
    }


def _of_attentions(site: Site, factor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """(what is in front of a projection, the factor of its channels)."""
    whole = ((0, len(factor)), site.absorber)
    for (start, stop), absorber in site.absorber.parts if isinstance(site.absorber, Split) else (whole,):
        for path in absorber.paths if isinstance(absorber, Rows) else ():
            yield path.rpartition(".")[0], factor[start:stop]
