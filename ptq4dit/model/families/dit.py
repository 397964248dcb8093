"""DiT, the class-conditional transformer of the paper: every block has its own modulation (PTQ4DiT Fig. 7)."""

from collections.abc import Iterator

from ptq4dit.model.families.family import Block, Family, Site, Stack
from ptq4dit.model.families.pieces import GELU, MODULATION_LEFT, QKV, under, values


def _block(block: Block) -> Iterator[Site]:
    """``norm1.linear`` makes shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp."""
    yield block.site("qkv", under("attn1", QKV), block.modulation("norm1.linear", shift=0, scale=1, chunks=6))
    yield block.site(
        "proj", ("attn1.to_out.0",), values(block, "attn1.to_v"), gate=block.gate("norm1.linear", 2, chunks=6)
    )
    yield block.site("fc1", ("ff.net.0.proj",), block.modulation("norm1.linear", shift=3, scale=4, chunks=6))
    yield block.site("fc2", ("ff.net.2",), GELU, gate=block.gate("norm1.linear", 5, chunks=6))


FAMILY = Family(
    name="dit",
    classes=("DiTTransformer2DModel",),
    balances_inputs=False,  # the paper leaves fc2 as it is
    stacks=(Stack(name="blocks", path="transformer_blocks", sites=_block),),
    left={
        "norm1.linear": MODULATION_LEFT,
        "norm1.emb.timestep_embedder.linear_1": MODULATION_LEFT,
        "norm1.emb.timestep_embedder.linear_2": MODULATION_LEFT,
    },
)
