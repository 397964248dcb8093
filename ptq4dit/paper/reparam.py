"""Re-parameterization: absorb balancing factors into a DiT's own weights (PTQ4DiT eqs. 13, 17-21).

What produces the input of a balanced layer is scaled by ``b``, the layer's input columns by ``1 / b``. The result is a
plain float model with the same output, which loads into an unmodified diffusers ``DiTTransformer2DModel``.
"""

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.model.layers import BALANCED_ROLES, Layer, balanced_layers, unknown_layer

MODULATION_CHUNKS = {"qkv": (0, 1), "fc1": (3, 4)}
"""(shift, scale) rows of ``norm1.linear``, whose output is chunked into shift_msa, scale_msa, gate_msa, shift_mlp,
scale_mlp, gate_mlp."""


@torch.no_grad()
def reparameterize(transformer: nn.Module, factors: Mapping[str, Float[Tensor, " channel"]]) -> nn.Module:
    """Multiply layer inputs by ``b_x`` and divide the layers' columns by it, without changing the model's output.

    - ``qkv``, ``fc1`` (after adaLN, eqs. 17-19): ``LN(z) (1 + gamma) + beta`` becomes ``LN(z) (b + b gamma) + b beta``
      by scaling the gamma and beta rows of the modulation linear; its forward keeps adding 1, so ``b - 1`` is added to
      the bias of the gamma rows.
    - ``proj`` (after ``softmax(QK) V``): the rows and bias of ``to_v`` are scaled, since attention is linear in V
      channel by channel. Deviation: the paper absorbs this factor in the de-quantization after the product (eq. 20);
      the rows of ``to_v`` give the same function and a plain model, but V itself is seen scaled.

    All factors are folded at once and refer to the given model: a factor of ``proj`` scales rows of ``to_v`` and with
    them, slightly, the weight salience of ``qkv``; the factor of ``qkv`` does not take that into account.

    Args:
        transformer: a float diffusers ``DiTTransformer2DModel``; left as it is.
        factors: layer name -> ``b_x`` ``(d_in,)``, positive and finite; layers that are left out keep their weights.

    Returns:
        A new float transformer of the same class.

    Raises:
        ValueError: for an unknown layer, ``fc2``, or a factor of wrong shape or sign.
    """
    layers = balanced_layers(transformer)
    for name, factor in factors.items():
        _require_factor(name, factor, layers)
    result = copy.deepcopy(transformer)
    for name, layer in balanced_layers(result).items():
        if name in factors:
            factor = factors[name].double()
            _scale_input(result.get_submodule(f"transformer_blocks.{layer.block}"), layer.role, factor)
            for linear in layer.linears:
                linear.weight.copy_(linear.weight.double() / factor.to(linear.weight.device))
    return result


def _scale_input(block: nn.Module, role: str, factor: Tensor) -> None:
    if role == "proj":
        _scale_rows(block.get_submodule("attn1.to_v"), slice(None), factor)
        return
    modulation = block.get_submodule("norm1.linear")
    width = factor.shape[0]
    shift, scale = (slice(chunk * width, (chunk + 1) * width) for chunk in MODULATION_CHUNKS[role])
    _scale_rows(modulation, shift, factor)
    _scale_rows(modulation, scale, factor, offset=factor - 1)


def _scale_rows(linear: nn.Module, rows: slice, factor: Tensor, offset: Tensor | None = None) -> None:
    assert isinstance(linear, nn.Linear)
    factor = factor.to(linear.weight.device)
    linear.weight[rows] = (linear.weight[rows].double() * factor[:, None]).to(linear.weight.dtype)
    if linear.bias is not None:
        bias = linear.bias[rows].double() * factor
        bias = bias if offset is None else bias + offset.to(bias.device)
        linear.bias[rows] = bias.to(linear.bias.dtype)


def _require_factor(name: str, factor: Tensor, layers: Mapping[str, Layer]) -> None:
    if name not in layers:
        raise ValueError(unknown_layer(name, list(layers)))
    layer = layers[name]
    if layer.role not in BALANCED_ROLES:
        raise ValueError(
            f"Expected factors for the roles {', '.join(BALANCED_ROLES)}, got {name!r}: the GELU in front of fc2 is "
            "not linear, so nothing before it can absorb a factor. Leave it out, or quantize with balance_fc2=True."
        )
    if factor.shape != (layer.in_features,):
        raise ValueError(f"Expected a factor of shape ({layer.in_features},) for {name!r}, got {tuple(factor.shape)}.")
    if not (torch.isfinite(factor) & (factor > 0)).all():
        raise ValueError(f"Expected positive, finite factors for {name!r}, got {float(factor.min())} as the smallest.")
