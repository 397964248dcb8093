"""One DiT block computed from its parts, its modulation given, so that training does not embed timesteps again."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ptq4dit.quantized.timestep_groups import TimestepClock


class BlockParts(nn.Module):
    """A diffusers ``BasicTransformerBlock`` (adaLN-zero) as a function of hidden states and modulation.

    ``h' = h + g_1 attention(LN(h) (1 + s_1) + b_1)``, ``y = h' + g_2 mlp(LN(h') (1 + s_2) + b_2)``; the modulation is
    ``(b_1, s_1, g_1, b_2, s_2, g_2)``. Equals the block's own forward.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.get_submodule("norm1.norm"), block.get_submodule("norm3")
        self.attn1, self.ff = block.get_submodule("attn1"), block.get_submodule("ff")

    def forward(
        self, hidden: Float[Tensor, "sample token width"], modulation: Float[Tensor, "sample 6 width"]
    ) -> Float[Tensor, "sample token width"]:
        """``(n, tokens, width) -> (n, tokens, width)``."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation[:, :, None].unbind(1)
        hidden = hidden + gate1 * self.attn1(torch.addcmul(shift1, self.norm1(hidden), 1 + scale1))
        return hidden + gate2 * self.ff(torch.addcmul(shift2, self.norm2(hidden), 1 + scale2))


@torch.no_grad()
def modulation(
    block: nn.Module, timesteps: Int[Tensor, " sample"], labels: Int[Tensor, " sample"]
) -> Float[Tensor, "sample 6 width"]:
    """What adaLN makes of timestep and class for one block; the block's own embedder and modulation are used."""
    norm = block.get_submodule("norm1")
    linear = norm.get_submodule("linear")
    dtype = next(block.parameters()).dtype
    return linear(norm.silu(norm.emb(timesteps, labels, hidden_dtype=dtype))).unflatten(1, (6, -1))  # type: ignore[operator]


def tell_clock(transformer: nn.Module, timesteps: Int[Tensor, " sample"]) -> None:
    """Say which timesteps the next rows belong to, where a model's scales depend on it."""
    clock = getattr(transformer, "ptq4dit_clock", None)
    if isinstance(clock, TimestepClock):
        clock.tell(timesteps)


def input_of(parts: BlockParts, name: str, hidden: Tensor, modulation: Tensor) -> Tensor:
    """What the layer of that name is given; what follows it is not computed."""
    with _caught_input(parts.get_submodule(name)) as caught, suppress(_ReachedError):
        parts(hidden, modulation)
    return caught[0]


class _ReachedError(Exception):
    """Thrown at the layer whose input is wanted: what follows it need not be computed."""


@contextmanager
def _caught_input(module: nn.Module) -> Iterator[list[Tensor]]:
    caught: list[Tensor] = []

    def catch(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        caught.append(args[0])
        raise _ReachedError

    handle = module.register_forward_pre_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()
