"""One forward pass of an adaLN-Zero DiT in two parts: what depends on (timestep, class) only, and the step itself.

diffusers' ``DiTTransformer2DModel`` embeds timestep and class again in every block of every step. A sampler knows all
its timesteps and classes beforehand, so `modulate` runs once for all of them and `predict` takes the result; together
they equal the model's own forward. Both work on the model's own modules, float or quantized.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, eq=False)
class Modulation:
    """What adaLN makes of each row's timestep and class.

    In memory, rows come after blocks and parts: the order in which compiled steps read them, so that a step copies
    nothing.

    Attributes:
        blocks: ``(n, blocks, 6, width)``: shift, scale, gate of the attention, then of the MLP.
        final: ``(n, 2, width)``: shift, scale of the last norm.
        timesteps: ``(n,)``, for scales that depend on the timestep.
    """

    blocks: Float[Tensor, "row block 6 width"]
    final: Float[Tensor, "row 2 width"]
    timesteps: Real[Tensor, " row"]

    def take(self, rows: Int[Tensor, " chosen"]) -> "Modulation":
        """Some of the rows, in the given order."""
        blocks = self.blocks.permute(1, 2, 0, 3).index_select(2, rows).permute(2, 0, 1, 3)
        final = self.final.transpose(0, 1).index_select(1, rows).transpose(0, 1)
        return Modulation(blocks=blocks, final=final, timesteps=self.timesteps[rows])


@runtime_checkable
class InTwoParts(Protocol):
    """A transformer that offers both parts itself, as the integer backend's does."""

    def modulate(self, timesteps: Real[Tensor, " row"], labels: Int[Tensor, " row"]) -> Modulation:
        """See `modulate`."""

    def predict(
        self, latents: Float[Tensor, "row channel height width"], modulation: Modulation
    ) -> Float[Tensor, "row out_channel height width"]:
        """See `predict`."""


@torch.no_grad()
def modulate(transformer: Any, timesteps: Real[Tensor, " row"], labels: Int[Tensor, " row"]) -> Modulation:
    """All blocks' modulations of some (timestep, class) pairs.

    The embedders of which diffusers keeps a copy in every block are run once when the copies are equal.

    Args:
        transformer: diffusers' ``DiTTransformer2DModel``, float or quantized.
        timesteps: training timesteps, fractional for some schedulers.
        labels: class indices.
    """
    tell_clock(transformer, timesteps)
    norms = [block.norm1 for block in transformer.transformer_blocks]
    dtype, shared = transformer.pos_embed.proj.bias.dtype, equal_embedders(transformer)
    first = norms[0].emb(timesteps, labels, hidden_dtype=dtype)
    rows = []
    for norm in norms:
        embedded = first if shared else norm.emb(timesteps, labels, hidden_dtype=dtype)
        rows.append(norm.linear(norm.silu(embedded)).unflatten(1, (6, -1)))
    final = transformer.proj_out_1(nn.functional.silu(first)).unflatten(1, (2, -1))
    blocks = torch.stack(rows).transpose(1, 2).contiguous()
    final = final.transpose(0, 1).contiguous()
    return Modulation(blocks=blocks.permute(2, 0, 1, 3), final=final.transpose(0, 1), timesteps=timesteps)


def predict(
    transformer: Any, latents: Float[Tensor, "row channel height width"], modulation: Modulation
) -> Float[Tensor, "row out_channel height width"]:
    """The model's output for these latents: its own forward without the embedding and the modulation linears.

    Args:
        transformer: diffusers' ``DiTTransformer2DModel``, float or quantized.
        latents: noisy latents.
        modulation: what `modulate` made of their timesteps and classes.
    """
    tell_clock(transformer, modulation.timesteps)
    hidden = transformer.pos_embed(latents)
    for index, block in enumerate(transformer.transformer_blocks):
        hidden = run_block(block, hidden, modulation.blocks[:, index])
    shift, scale = modulation.final[:, :, None].unbind(1)
    tokens = transformer.proj_out_2(modulated(transformer.norm_out(hidden), shift, scale))
    return unpatchify(tokens, transformer.patch_size, transformer.out_channels)


def run_block(
    block: Any, hidden: Float[Tensor, "row token width"], modulation: Float[Tensor, "row 6 width"]
) -> Float[Tensor, "row token width"]:
    """One block: ``h' = h + g_1 attention(LN(h) (1 + s_1) + b_1)``, ``h' + g_2 mlp(LN(h') (1 + s_2) + b_2)``."""
    shift1, scale1, gate1, shift2, scale2, gate2 = modulation[:, :, None].unbind(1)
    hidden = hidden + gate1 * block.attn1(modulated(block.norm1.norm(hidden), shift1, scale1))
    return hidden + gate2 * block.ff(modulated(block.norm3(hidden), shift2, scale2))


def modulated(
    x: Float[Tensor, "row token width"], shift: Float[Tensor, "row 1 width"], scale: Float[Tensor, "row 1 width"]
) -> Float[Tensor, "row token width"]:
    """``x (1 + scale) + shift``."""
    return x * (1 + scale) + shift


def unpatchify(
    tokens: Float[Tensor, "row token values"], patch: int, channels: int
) -> Float[Tensor, "row channel height width"]:
    """Tokens of ``patch * patch * channels`` values, channels last, to the picture that they tile."""
    side = int(tokens.shape[1] ** 0.5)
    tiles = tokens.reshape(-1, side, side, patch, patch, channels)
    return tiles.permute(0, 5, 1, 3, 2, 4).reshape(-1, channels, side * patch, side * patch)


def equal_embedders(transformer: Any) -> bool:
    """Whether all blocks embed timestep and class alike: the same values and the same frequencies."""
    first, *others = (block.norm1.emb for block in transformer.transformer_blocks)
    state, shift = first.state_dict(), first.time_proj.downscale_freq_shift
    return all(emb.time_proj.downscale_freq_shift == shift and _equal(state, emb.state_dict()) for emb in others)


def _equal(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(
        value.data_ptr() == other[name].data_ptr() or torch.equal(value, other[name]) for name, value in state.items()
    )


def tell_clock(transformer: Any, timesteps: Real[Tensor, " row"]) -> None:
    """Say which timesteps the next rows belong to, where a model's scales depend on it."""
    clock = getattr(transformer, "ptq4dit_clock", None)
    if clock is not None:
        clock.tell(timesteps)
