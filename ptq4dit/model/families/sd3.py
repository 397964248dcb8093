"""Stable Diffusion 3 and 3.5: two streams with a joint attention; some blocks of 3.5 attend to the image once more."""

from collections.abc import Iterator

from ptq4dit.model.families.family import Block, Family, Site, Stack
from ptq4dit.model.families.pieces import MODULATION_LEFT, QKV, joint_attention, stream, under, values


def _block(block: Block) -> Iterator[Site]:
    """``norm1.linear``: shift, scale, gate of attention and MLP; with dual attention three more for it.

    The last block only reads its context: there ``norm1_context.linear`` makes scale, shift.
    """
    dual = block.module.attn2 is not None
    chunks = 9 if dual else 6
    image = block.modulation("norm1.linear", shift=0, scale=1, chunks=chunks)
    if block.module.context_pre_only:
        context, gate = block.modulation("norm1_context.linear", shift=1, scale=0, chunks=2), None
    else:
        context = block.modulation("norm1_context.linear", shift=0, scale=1, chunks=6)
        gate = block.gate("norm1_context.linear", 2, chunks=6)
    yield from joint_attention(block, image, context, (block.gate("norm1.linear", 2, chunks=chunks), gate))
    if dual:
        second = block.modulation("norm1.linear", shift=6, scale=7, chunks=9)
        yield block.site("dual.qkv", under("attn2", QKV), second)
        yield block.site(
            "dual.proj", ("attn2.to_out.0",), values(block, "attn2.to_v"), gate=block.gate("norm1.linear", 8, chunks=9)
        )
    modulation = block.modulation("norm1.linear", shift=3, scale=4, chunks=chunks)
    yield from stream(block, "", "ff", modulation, block.gate("norm1.linear", 5, chunks=chunks))
    if not block.module.context_pre_only:
        modulation = block.modulation("norm1_context.linear", shift=3, scale=4, chunks=6)
        yield from stream(block, "context.", "ff_context", modulation, block.gate("norm1_context.linear", 5, chunks=6))


FAMILY = Family(
    name="sd3",
    classes=("SD3Transformer2DModel",),
    stacks=(Stack(name="blocks", path="transformer_blocks", sites=_block),),
    left={"norm1.linear": MODULATION_LEFT, "norm1_context.linear": MODULATION_LEFT},
)
