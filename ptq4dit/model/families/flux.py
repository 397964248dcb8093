"""FLUX.1: double blocks with two streams, then single blocks whose attention and MLP run side by side."""

from collections.abc import Iterator

from ptq4dit.model.families.absorber import Split
from ptq4dit.model.families.family import Block, Family, Site, Stack
from ptq4dit.model.families.pieces import GELU, MODULATION_LEFT, QKV, joint_attention, stream, under, values


def _double(block: Block) -> Iterator[Site]:
    """Both ``norm1.linear`` and ``norm1_context.linear`` make shift, scale, gate of attention and of MLP."""
    image, context = "norm1.linear", "norm1_context.linear"
    yield from joint_attention(
        block,
        block.modulation(image, shift=0, scale=1, chunks=6),
        block.modulation(context, shift=0, scale=1, chunks=6),
        gates=(block.gate(image, 2, chunks=6), block.gate(context, 2, chunks=6)),
    )
    gates = block.gate(image, 5, chunks=6), block.gate(context, 5, chunks=6)
    yield from stream(block, "", "ff", block.modulation(image, shift=3, scale=4, chunks=6), gates[0])
    modulation = block.modulation(context, shift=3, scale=4, chunks=6)
    yield from stream(block, "context.", "ff_context", modulation, gates[1])


def _single(block: Block) -> Iterator[Site]:
    """``proj_out`` reads attention and GELU beside each other: (batch, token, width + mlp width)."""
    modulation = block.modulation("norm.linear", shift=0, scale=1, chunks=3)
    width = modulation.scale[1] - modulation.scale[0]
    wide = width + block.shape("proj_mlp")[0]
    yield block.site("qkv_mlp", (*under("attn", QKV), "proj_mlp"), modulation)
    columns = (((0, width), values(block, "attn.to_v")), ((width, wide), GELU))
    yield block.site("proj_out", ("proj_out",), Split(parts=columns), gate=block.gate("norm.linear", 2, chunks=3))


FAMILY = Family(
    name="flux",
    classes=("FluxTransformer2DModel",),
    stacks=(
        Stack(name="blocks", path="transformer_blocks", sites=_double),
        Stack(name="single", path="single_transformer_blocks", sites=_single),
    ),
    left={
        "norm1.linear": MODULATION_LEFT,
        "norm1_context.linear": MODULATION_LEFT,
        "norm.linear": MODULATION_LEFT,
    },
)
