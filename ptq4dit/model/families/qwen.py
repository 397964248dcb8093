"""Qwen-Image: two streams with a joint attention, modulated by linears of their own."""

from collections.abc import Iterator

from ptq4dit.model.families.family import Block, Family, Site, Stack
from ptq4dit.model.families.pieces import MODULATION_LEFT, joint_attention, stream


def _block(block: Block) -> Iterator[Site]:
    """``img_mod.1`` and ``txt_mod.1`` make shift, scale, gate of attention and of MLP."""
    image, text = "img_mod.1", "txt_mod.1"
    yield from joint_attention(
        block,
        block.modulation(image, shift=0, scale=1, chunks=6),
        block.modulation(text, shift=0, scale=1, chunks=6),
        gates=(block.gate(image, 2, chunks=6), block.gate(text, 2, chunks=6)),
    )
    gates = block.gate(image, 5, chunks=6), block.gate(text, 5, chunks=6)
    yield from stream(block, "", "img_mlp", block.modulation(image, shift=3, scale=4, chunks=6), gates[0])
    modulation = block.modulation(text, shift=3, scale=4, chunks=6)
    yield from stream(block, "context.", "txt_mlp", modulation, gates[1])


FAMILY = Family(
    name="qwen",
    classes=("QwenImageTransformer2DModel",),
    stacks=(Stack(name="blocks", path="transformer_blocks", sites=_block),),
    left={"img_mod.1": MODULATION_LEFT, "txt_mod.1": MODULATION_LEFT},
)
