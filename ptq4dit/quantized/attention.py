"""Attention whose q, k, v and softmax output are rounded, simulated in floats (PTQ4DiT Section 5.1)."""

import dataclasses
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.config.quantization import FLOAT_BITS, LayerConfig
from ptq4dit.numerics.affine import AffineSpec, affine_from_range
from ptq4dit.numerics.logarithmic import fake_quantize_log
from ptq4dit.quantized.activation import is_static, round_dynamic, round_static
from ptq4dit.quantized.timestep_groups import TimestepClock

SoftmaxQuantizer = Literal["uniform", "log_sqrt2"]
PARTS = ("q", "k", "v", "softmax")


class QuantizedAttnProcessor(nn.Module):
    """A processor for diffusers' ``Attention`` (self-attention of a DiT block), with explicit products.

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
        """An unfilled processor; fill it by `set_ranges` or a state dict.

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
