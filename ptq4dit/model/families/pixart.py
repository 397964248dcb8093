"""PixArt-alpha and PixArt-Sigma: one timestep projection modulates all blocks; cross attention reads the caption."""

from collections.abc import Iterator

from ptq4dit.model.families.absorber import InputFactor, Rows
from ptq4dit.model.families.family import Block, Family, Site, Stack
from ptq4dit.model.families.pieces import QKV, RESIDUAL, SHARED_MODULATION, down_projection, under, values


def _block(block: Block) -> Iterator[Site]:
    """The blocks' own tables are added to a projection that all share: scaling a table alone would be wrong."""
    yield block.site("qkv", under("attn1", QKV), SHARED_MODULATION)
    yield block.site("proj", ("attn1.to_out.0",), values(block, "attn1.to_v"))
    if block.module.attn2 is not None:
        yield block.site("cross.q", ("attn2.to_q",), RESIDUAL)
        yield _caption(block)
        yield block.site("cross.proj", ("attn2.to_out.0",), values(block, "attn2.to_v"))
    yield block.site("fc1", ("ff.net.0.proj",), SHARED_MODULATION)
    yield block.site("fc2", ("ff.net.2",), down_projection(block, "ff"))


def _caption(block: Block) -> Site:
    """All blocks read the same caption, so they share the factor that the last linear in front of it absorbs."""
    paths = ("attn2.to_k", "attn2.to_v")
    if getattr(block.transformer, "caption_projection", None) is None:
        return block.site("cross.kv", paths, InputFactor(why="the caption comes from outside the transformer"))
    first = f"{block.stack}.0.cross.kv"
    absorber = Rows(paths=("caption_projection.linear_2",))
    return block.site("cross.kv", paths, absorber, tied_to=first if block.index else None)


FAMILY = Family(
    name="pixart",
    classes=("PixArtTransformer2DModel",),
    stacks=(Stack(name="blocks", path="transformer_blocks", sites=_block),),
    left={},
)
