"""The linears of a DiT that graphs written by hand hold, and which DiTs such graphs are right for."""

from collections.abc import Callable
from typing import Any

from diffusers import DiTTransformer2DModel
from diffusers.models.activations import GELU
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

from ptq4dit.backends.integer_linear import IntegerLinear, integer_linear_of, refusal, require_one_grid
from ptq4dit.model.layers import ROLES
from ptq4dit.quantized.attention import QuantizedAttnProcessor

_PATHS = {
    "qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "proj": ("attn1.to_out.0",),
    "fc1": ("ff.net.0.proj",),
    "fc2": ("ff.net.2",),
}


def static_linear_of(name: str, linears: list[nn.Module]) -> IntegerLinear:
    """Linears that read the same input as one, whose input has one static grid."""
    return require_one_grid(integer_linear_of(name, linears))


def block_linears(
    twin: Any, block: int, describe: Callable[[str, list[nn.Module]], Any] = static_linear_of
) -> dict[str, Any]:
    """The four linears of a block by role; q, k and v are one, as they read one input.

    Args:
        twin: the quantized ``DiTTransformer2DModel``.
        block: which.
        describe: (name, linears) -> what is written for them.

    Raises:
        ValueError: if integers cannot run one of them; the message names it and what to choose instead.
    """
    module = twin.transformer_blocks[block]
    linears = {role: [module.get_submodule(path) for path in _PATHS[role]] for role in ROLES}
    return {role: describe(f"blocks.{block}.{role}", linears[role]) for role in ROLES}


def require_plain_attention(twin: Any, block: int) -> None:
    """Refuse a block whose attention rounds more than its linears, for graphs that do not."""
    if isinstance(twin.transformer_blocks[block].attn1.processor, QuantizedAttnProcessor):
        raise refusal(f"blocks.{block}.attention", "rounded q, k, v or softmax", "attention_bits=16, softmax_bits=16")


def is_published_dit(twin: Any) -> bool:
    """Whether a transformer is a class-conditional DiT that graphs and forwards written by hand are right for."""
    return isinstance(twin, DiTTransformer2DModel) and unknown_part(twin) is None


def unknown_part(twin: Any) -> str | None:
    """What a DiT has that a graph written by hand would leave out, in words; None for the published architecture.

    Norms with a gain and a bias of their own are part of the graph.
    """
    if type(twin).forward is not DiTTransformer2DModel.forward:
        return f"a forward of its own ({type(twin).__name__})"
    for index, block in enumerate(twin.transformer_blocks):
        inner, attention = block.ff.net[0], block.attn1
        if type(inner) is not GELU:
            return f"{type(inner).__name__} in 'transformer_blocks.{index}.ff'"
        plain = AttnProcessor, AttnProcessor2_0, QuantizedAttnProcessor
        if type(attention.processor) not in plain:
            return f"{type(attention.processor).__name__} in 'transformer_blocks.{index}.attn1'"
        if attention.norm_q is not None or attention.norm_k is not None or attention.rescale_output_factor != 1:
            return f"norms of q and k, or a rescaled output, in 'transformer_blocks.{index}.attn1'"
    return None


def require_published(twin: Any) -> None:
    """Refuse a DiT that a graph written by hand would compute differently, naming what is different."""
    unknown = unknown_part(twin)
    if unknown is not None:
        raise ValueError(
            f"Expected a DiT of the published architecture, got one with {unknown}, which the exported graph would "
            "leave out. Run it here instead: ptq4dit.with_backend(model, ...)."
        )
