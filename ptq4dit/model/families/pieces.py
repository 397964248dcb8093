"""The pieces that most of diffusers' blocks are built of: its attention, its feed-forward, both streams of an MMDiT."""

from collections.abc import Iterator

from ptq4dit.model.families.absorber import InputFactor, Modulation, Rows
from ptq4dit.model.families.family import Block, Gate, Site

QKV = ("to_q", "to_k", "to_v")
ADDED_QKV = ("add_q_proj", "add_k_proj", "add_v_proj")
GELU = InputFactor(why="a GELU stands in front")
RESIDUAL = InputFactor(why="the residual stream is read as it is")
SHARED_MODULATION = InputFactor(why="one modulation serves all blocks")
MODULATION_LEFT = "modulation: it reads the conditioning, one row an image"


def under(parent: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Paths of the children ``names`` of ``parent``."""
    return tuple(f"{parent}.{name}" for name in names)


def values(block: Block, *projections: str) -> Rows:
    """What an attention's output projection is absorbed by: the projections that make its values.

    ``softmax(QK) V`` is linear in V channel by channel, whatever is done to q and k (norms, rotation, masks).

    Raises:
        ValueError: if an IP adapter adds values of its own, which these rows do not scale.
    """
    attention = projections[0].rsplit(".", 1)[0]
    processor = getattr(block.module.get_submodule(attention), "processor", None)
    if type(processor).__name__.startswith(("SD3IPAdapter", "IPAdapter")):
        raise ValueError(
            f"Expected an attention without an adapter in {block.path!r}, got {type(processor).__name__}, whose own "
            "values no factor reaches. Unload the IP adapter first."
        )
    return Rows(paths=block.at(*projections))


def down_projection(block: Block, feed_forward: str) -> Rows | InputFactor:
    """What is in front of the second linear of diffusers' ``FeedForward``: its linear half if gated, else a GELU."""
    gate = block.module.get_submodule(f"{feed_forward}.net.0")
    if type(gate).__name__ not in ("GEGLU", "SwiGLU"):
        return GELU
    inner = block.shape(f"{feed_forward}.net.0.proj")[0] // 2
    return Rows(paths=block.at(f"{feed_forward}.net.0.proj"), rows=(0, inner))


def stream(
    block: Block, place: str, feed_forward: str, modulation: Modulation, gate: Gate | None = None
) -> Iterator[Site]:
    """fc1 and fc2 of one stream, which ``gate`` multiplies: ``place`` is "" or "context."."""
    yield block.site(f"{place}fc1", (f"{feed_forward}.net.0.proj",), modulation)
    yield block.site(f"{place}fc2", (f"{feed_forward}.net.2",), down_projection(block, feed_forward), gate=gate)


def joint_attention(
    block: Block, image: Modulation, context: Modulation, gates: tuple[Gate | None, Gate | None] = (None, None)
) -> Iterator[Site]:
    """The attention over image and context of an MMDiT block: both output projections read the same values.

    ``gates`` multiply what these two make.
    """
    joint = values(block, "attn.to_v", "attn.add_v_proj")
    yield block.site("qkv", under("attn", QKV), image)
    yield block.site("context.qkv", under("attn", ADDED_QKV), context)
    yield block.site("proj", ("attn.to_out.0",), joint, gate=gates[0])
    if getattr(block.module.get_submodule("attn"), "to_add_out", None) is not None:
        tied = f"{block.name}.proj"
        yield block.site("context.proj", ("attn.to_add_out",), joint, tied_to=tied, gate=gates[1])
