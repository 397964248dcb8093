"""The product that an attention ends in, ``softmax(q k^T scale + mask) v``: caught where torch is asked for it.

Whatever makes q, k and v (norms, rotation, one stream or two), most attentions hand them to
``torch.nn.functional.scaled_dot_product_attention``: those of diffusers, and many of people's own.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

PARTS = ("q", "k", "v", "softmax")
"""What an attention multiplies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """The arguments of one ``scaled_dot_product_attention``, as it understands them.

    Attributes:
        q: ``(..., token, channel)``, most often ``(row, head, token, channel)``.
        k: ``(..., key, channel)``; where it has fewer heads than q, several in a row read the same.
        v: ``(..., key, value channel)``.
        mask: added to the scores, or True where a key may be seen; broadcasts to ``(..., token, key)``.
        causal: a token sees the keys up to its own place.
        scale: of the scores.
    """

    q: Float[Tensor, "*heads token channel"]
    k: Float[Tensor, "*key_heads key channel"]
    v: Float[Tensor, "*key_heads key value"]
    mask: Tensor | None
    causal: bool
    scale: float

    @staticmethod
    def of(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,  # heads say it
    ) -> "Product":
        """From the arguments of ``scaled_dot_product_attention``.

        Raises:
            ValueError: with dropout, which nobody wants in a sampling model.
        """
        if dropout_p:
            raise ValueError(f"Expected an attention without dropout, got dropout_p={dropout_p}. Call model.eval().")
        chosen = float(query.shape[-1]) ** -0.5 if scale is None else float(scale)  # inside a trace they are tensors
        return Product(q=query, k=key, v=value, mask=attn_mask, causal=is_causal, scale=chosen)

    def visible(self) -> Tensor | None:
        """The mask, or the one that causality is; None where all is seen."""
        if not self.causal:
            return self.mask
        return torch.ones(self.q.shape[-2], self.k.shape[-2], dtype=torch.bool, device=self.q.device).tril()

    def probabilities(self) -> Float[Tensor, "*heads token key"]:
        """``softmax(q k^T scale + mask)``; zeros for a token that sees no key, as torch has it."""
        scores = (self.q * self.scale) @ of_every_head(self.k, self.q).transpose(-1, -2)
        mask = self.visible()
        if mask is None:
            return torch.softmax(scores, dim=-1)
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        blind = (scores == -torch.inf).all(dim=-1, keepdim=True)
        return torch.softmax(scores, dim=-1).masked_fill(blind, 0.0)


def of_every_head(x: Float[Tensor, "*key_heads key channel"], q: Tensor) -> Float[Tensor, "*heads key channel"]:
    """Keys or values for each head of ``q``, where several share them (grouped-query attention)."""
    if x.ndim < 4 or x.shape[-3] == q.shape[-3]:
        return x
    return x.repeat_interleave(q.shape[-3] // x.shape[-3], dim=-3)


def tokens_of(x: Float[Tensor, "*heads token channel"]) -> Float[Tensor, "*rows token channels"]:
    """A token's channels of all heads beside each other, as the projections made them."""
    return x.transpose(1, 2).flatten(2) if x.ndim == 4 else x


class Products(TorchFunctionMode):
    """A ``with`` block in which each product of an attention is passed to `product`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is scaled_dot_product_attention:
            return self.product(Product.of(*args, **given), lambda: func(*args, **given))
        return func(*args, **given)

    @abstractmethod
    def product(self, product: Product, plain: Callable[[], Tensor]) -> Tensor:
        """What to give for a product, which ``plain`` would compute."""
