"""Attention whose q, k, v and softmax output are rounded, simulated in floats (PTQ4DiT Section 5.1).

A DiT's has a processor of its own. Any other that ends in ``torch.nn.functional.scaled_dot_product_attention`` keeps
its forward, inside which that product is caught (`round_attention`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.config.quantization import FLOAT_BITS, LayerConfig
from ptq4dit.model.attention import PARTS, Product, Products, of_every_head, tokens_of
from ptq4dit.numerics.affine import AffineSpec, affine_from_range
from ptq4dit.numerics.logarithmic import fake_quantize_log
from ptq4dit.quantized.activation import is_static, round_dynamic, round_static
from ptq4dit.quantized.timestep_groups import TimestepClock

SoftmaxQuantizer = Literal["uniform", "log_sqrt2"]
ROUNDING = "ptq4dit_attention"
"""Name of the `RoundedProduct` in an attention."""


class AttentionRounding(nn.Module):
    """How an attention's q, k, v and softmax output are rounded.

    Buffers of each part whose range is static: ``<part>_scale`` and ``<part>_zero_point``, ``()`` or
    ``(timestep groups,)``. The softmax is unsigned with zero point 0; with ``"log_sqrt2"`` it needs no range.
    """

    def __init__(
        self,
        config: LayerConfig,
        *,
        attention_bits: int,
        softmax_bits: int,
        softmax: SoftmaxQuantizer = "uniform",
        clock: TimestepClock | None = None,
    ) -> None:
        """Unfilled; fill it by `set_ranges` or a state dict.

        Args:
            config: granularity and symmetry of q, k and v.
            attention_bits: of q, k and v; 16 for float.
            softmax_bits: 16 for float.
            softmax: how the softmax output is rounded.
            clock: the transformer's, for scales per timestep group.
        """
        super().__init__()
        self.softmax_quantizer = softmax
        self._clock = [clock]
        parts = dataclasses.replace(config, activation_bits=attention_bits)
        soft = dataclasses.replace(config, activation_bits=softmax_bits, activation_symmetric=False)
        self.configs = {"q": parts, "k": parts, "v": parts, "softmax": soft}
        shape = (config.timestep_groups,) if config.activation_granularity == "per_timestep_group" else ()
        for part in PARTS:
            if is_static(self.configs[part]) and not (part == "softmax" and softmax == "log_sqrt2"):
                self.register_buffer(f"{part}_scale", torch.ones(shape))
                self.register_buffer(f"{part}_zero_point", torch.zeros(shape, dtype=torch.int32))

    @torch.no_grad()
    def set_ranges(self, **ranges: tuple[Float[Tensor, "*groups"], Float[Tensor, "*groups"]]) -> None:
        """Set the static scales of parts from their smallest and largest values; parts without scale are skipped."""
        for part, (low, high) in ranges.items():
            if hasattr(self, f"{part}_scale"):
                config = self.configs[part]
                spec = AffineSpec(bits=config.activation_bits, symmetric=config.activation_symmetric)
                scale, zero_point = affine_from_range(low.clamp(min=0) if part == "softmax" else low, high, spec)
                getattr(self, f"{part}_scale").copy_(scale)
                getattr(self, f"{part}_zero_point").copy_(zero_point)

    def _round(self, part: str, x: Tensor) -> Tensor:
        config = self.configs[part]
        if config.activation_bits == FLOAT_BITS:
            return x
        if part == "softmax" and self.softmax_quantizer == "log_sqrt2":
            return fake_quantize_log(x, config.activation_bits, "log_sqrt2")
        if not is_static(config):
            return round_dynamic(x, config)
        scale, zero_point = getattr(self, f"{part}_scale"), getattr(self, f"{part}_zero_point")
        return round_static(x, scale, zero_point, config, self._clock[0])


class QuantizedAttnProcessor(AttentionRounding):
    """A processor for diffusers' ``Attention`` (self-attention of a DiT block), with explicit products."""

    def forward(
        self, attn: Any, hidden_states: Float[Tensor, "row token channel"], *_: Any, **__: Any
    ) -> Float[Tensor, "row token channel"]:
        """Self-attention of ``attn`` on these tokens; other arguments that diffusers passes are not used by a DiT."""
        q, k, v = (
            self._round(part, linear(hidden_states)).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part, linear in (("q", attn.to_q), ("k", attn.to_k), ("v", attn.to_v))
        )
        probabilities = self._round("softmax", torch.softmax((q * attn.scale) @ k.transpose(-1, -2), dim=-1))
        mixed = (probabilities @ v).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](mixed))


class RoundedProduct(AttentionRounding):
    """``softmax(q k^T scale + mask) v`` with explicit products of what is rounded, in the place of torch's own."""

    def forward(self, product: Product) -> Float[Tensor, "*heads token value"]:
        """What ``scaled_dot_product_attention`` gives."""
        q, k, v = (self._round_tokens(part, getattr(product, part)) for part in ("q", "k", "v"))
        soft = self._round("softmax", dataclasses.replace(product, q=q, k=k, v=v).probabilities())
        return soft @ of_every_head(v, q)

    def _round_tokens(self, part: str, x: Tensor) -> Tensor:
        """A token's own grid is one for all its heads."""
        if is_static(self.configs[part]) or x.ndim != 4:
            return self._round(part, x)
        return self._round(part, tokens_of(x)).unflatten(2, (x.shape[1], -1)).transpose(1, 2)


def round_attention(attention: nn.Module, rounding: RoundedProduct) -> None:
    """Have an attention's products rounded from now on, in place; its class stays a subclass of what it was."""
    attention.add_module(ROUNDING, rounding)
    stock: Any = type(attention)
    attention.__class__ = _rounding_class(stock)


class _RoundsProducts:
    """What stands in front of an attention's class. A call catches its products; a forward of its own it needs not."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _Rounded(getattr(self, ROUNDING)) as products:
            result = super().__call__(*args, **kwargs)  # type: ignore[misc]
        if not products.seen:
            raise ValueError(
                f"Expected a {type(self).__name__} that asks torch for scaled_dot_product_attention, as it did when it "
                'was calibrated, got another way. Use diffusers\' attention backend "native".'
            )
        return result

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copied and pickled as an object of the class that it was."""
        parts = super().__reduce_ex__(protocol)
        return (_blank, (type(self).__mro__[2],), *parts[2:])


class _Rounded(Products):
    """Rounds every product inside."""

    def __init__(self, rounding: nn.Module) -> None:
        super().__init__()
        self._rounding, self.seen = rounding, False

    def product(self, product: Product, plain: Callable[[], Tensor]) -> Tensor:
        self.seen = True
        result: Tensor = self._rounding(product)
        return result


@functools.cache
def _rounding_class(stock: type) -> type:
    names = {"__module__": stock.__module__, "__qualname__": stock.__qualname__, "__doc__": stock.__doc__}
    return type(stock.__name__, (_RoundsProducts, stock), names)


def _blank(stock: type) -> Any:
    made: Any = _rounding_class(stock)
    return made.__new__(made)
