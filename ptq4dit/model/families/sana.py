"""Sana: linear attention, cross attention to a normed caption, and a feed-forward of convolutions."""

from collections.abc import Iterator

from ptq4dit.model.families.absorber import Rows
from ptq4dit.model.families.family import Block, Family, Site, Stack
from ptq4dit.model.families.pieces import QKV, RESIDUAL, SHARED_MODULATION, under, values


def _block(block: Block) -> Iterator[Site]:
    """One timestep projection modulates all blocks; its linear attention divides by a sum that has no V in it.

    The feed-forward is ``conv_point(a * silu(b))`` with ``a, b`` the halves of the depthwise ``conv_depth``.
    """
    yield block.site("qkv", under("attn1", QKV), SHARED_MODULATION)
    yield block.site("proj", ("attn1.to_out.0",), values(block, "attn1.to_v"))
    if getattr(block.module, "attn2", None) is not None:
        yield block.site("cross.q", ("attn2.to_q",), RESIDUAL)
        first = f"{block.stack}.0.cross.kv" if block.index else None
        yield block.site("cross.kv", ("attn2.to_k", "attn2.to_v"), Rows(paths=("caption_norm",)), tied_to=first)
        yield block.site("cross.proj", ("attn2.to_out.0",), values(block, "attn2.to_v"))
    yield block.site("conv1", ("ff.conv_inverted",), SHARED_MODULATION)
    hidden = block.shape("ff.conv_depth")[0] // 2
    yield block.site("conv2", ("ff.conv_point",), Rows(paths=block.at("ff.conv_depth"), rows=(0, hidden)))


FAMILY = Family(
    name="sana",
    classes=("SanaTransformer2DModel",),
    stacks=(Stack(name="blocks", path="transformer_blocks", sites=_block),),
    left={"ff.conv_depth": "depthwise: every output channel reads one input channel, there is nothing to balance"},
)
