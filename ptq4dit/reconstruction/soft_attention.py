"""A quantized attention while a block is trained: it rounds as before, and a gradient passes."""

import copy

from torch import Tensor

from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.quantized.activation import activation_spec, is_static
from ptq4dit.quantized.attention import AttentionRounding, QuantizedAttnProcessor, RoundedProduct
from ptq4dit.reconstruction.rounding import round_learned, straight_through


class SoftAttention(AttentionRounding):
    """Stands in for an `AttentionRounding`; its ranges are not learned.

    Where a range is static, values outside of it get no gradient; all others get that of the identity.
    """

    @staticmethod
    def of(rounding: AttentionRounding) -> "SoftAttention":
        """One with the same state and the same clock."""
        result = copy.copy(rounding)
        result.__class__ = _SoftProcessor if isinstance(rounding, QuantizedAttnProcessor) else _SoftProduct
        assert isinstance(result, SoftAttention)
        return result

    def _round(self, part: str, x: Tensor) -> Tensor:
        config = self.configs[part]
        if config.activation_bits == FLOAT_BITS:
            return x
        if not is_static(config) or not hasattr(self, f"{part}_scale"):
            return straight_through(x, super()._round(part, x.detach()))
        scale, zero_point = getattr(self, f"{part}_scale"), getattr(self, f"{part}_zero_point")
        low = activation_spec(config).qmin - zero_point.to(x.dtype)
        if scale.ndim:
            clock = self._clock[0]
            assert clock is not None
            scale, low = clock.pick(scale, x), clock.pick(low, x)
        return round_learned(x, scale, low, low + (2**config.activation_bits - 1))


class _SoftProcessor(SoftAttention, QuantizedAttnProcessor):
    pass


class _SoftProduct(SoftAttention, RoundedProduct):
    pass
