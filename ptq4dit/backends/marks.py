"""What stands in a trace for what is computed on integers: operations of our own, which the conversion knows."""

import functools
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.backends.shared_copies import shallow_copy
from ptq4dit.model.attention import Product, of_every_head
from ptq4dit.quantized.attention import ROUNDING
from ptq4dit.quantized.linear import QuantizedLinear, QuantizedPatchEmbed

LINEAR, PRODUCT = "ptq4dit::integer_linear", "ptq4dit::integer_attention"
"""Names of the operations in a trace."""
_HIDDEN = -1e30
"""Added to the score of a key that a token does not see: finite, so that one that sees none is no nan."""


class MarkedLinear(nn.Module):
    """Stands for a quantized linear in a trace."""

    def __init__(self, index: int, layer: QuantizedLinear) -> None:
        super().__init__()
        self.index, self.in_features, self.out_features = index, layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight.detach().float(), layer.bias

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """The operation that the conversion knows."""
        return _marker()(x, self.index, self.out_features)


class MarkedPatchEmbed(MarkedLinear):
    """Stands for a quantized patch embedding or 1x1 convolution."""

    def __init__(self, index: int, layer: QuantizedPatchEmbed) -> None:
        super().__init__(index, layer)
        self.patch = layer.patch

    def forward(self, x: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n d_out rows columns"]:
        """``(n, c, h, w) -> (n, d_out, h / patch, w / patch)``."""
        tiles = x.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))
        return super().forward(tiles.permute(0, 2, 4, 1, 3, 5).flatten(3)).permute(0, 3, 1, 2)


class MarkedProduct(nn.Module):
    """Stands for the rounding of an attention's product in a trace."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, product: Product) -> Float[Tensor, "*heads token value"]:
        """The operation that the conversion knows, with a mask that is added; zeros for tokens that see no key.

        Whether one does is computed in floats: OpenVINO 2026.4 has no kernel for the product with a boolean.
        """
        q, k, v = product.q, of_every_head(product.k, product.q), of_every_head(product.v, product.q)
        mask, scale = product.visible(), product.scale
        if mask is None:
            return _product_marker()(q, k, v, q, False, self.index, scale)
        if mask.dtype != torch.bool:
            return _product_marker()(q, k, v, mask.clamp(min=_HIDDEN), True, self.index, scale)
        added = torch.where(mask, 0.0, _HIDDEN)
        sees = (1.0 + added.amax(dim=-1, keepdim=True) * (-1.0 / _HIDDEN)).clamp(min=0.0)
        return _product_marker()(q, k, v, added, True, self.index, scale) * sees


@functools.cache
def _product_marker() -> Any:
    """The operation ``(q, k, v, mask, whether it counts, index of the attention, scale)``, of which a trace needs the
    output's shape only.
    """

    @torch.library.custom_op(PRODUCT, mutates_args=())
    def integer_attention(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor, masked: bool, index: int, scale: float
    ) -> Tensor:
        return q.new_zeros(*q.shape[:-1], v.shape[-1])

    return integer_attention


@functools.cache
def _marker() -> Any:
    """The operation ``(x, index of the layer, columns)``; a trace needs its output's shape only."""

    @torch.library.custom_op(LINEAR, mutates_args=())
    def integer_linear(x: Tensor, index: int, columns: int) -> Tensor:
        return x.new_zeros(*x.shape[:-1], columns)

    return integer_linear


def marked(twin: Any, layers: dict[str, QuantizedLinear], attentions: Iterable[str]) -> Any:
    """A copy in float32, marks in place of quantized linears and attentions' rounding; it shares what is that."""
    result = shallow_copy(twin)
    for index, (name, layer) in enumerate(layers.items()):
        if isinstance(layer, QuantizedPatchEmbed):
            result.set_submodule(name, MarkedPatchEmbed(index, layer))
        else:
            result.set_submodule(name, MarkedLinear(index, layer))
    for index, name in enumerate(attentions):
        result.set_submodule(f"{name}.{ROUNDING}", MarkedProduct(index))
    for module in result.modules():
        for own in (module._parameters, module._buffers):
            for key, tensor in own.items():
                if tensor is not None and tensor.is_floating_point():
                    own[key] = nn.Parameter(wide(tensor.detach()), requires_grad=False)
    return result.eval()


def wide(tensor: Tensor) -> Tensor:
    """Floats in float32."""
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
