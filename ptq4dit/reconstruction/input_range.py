"""Choose the static range of a layer's input by the error of its output: its scale alone, or each end by itself."""

import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.numerics.affine import affine_from_range
from ptq4dit.quantized.activation import activation_spec, round_static
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.reconstruction.blocks import BlockPair
from ptq4dit.reconstruction.capture import input_of
from ptq4dit.reconstruction.data import BlockData
from ptq4dit.reconstruction.layer_input import by_sample

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Shares of the range that are tried."""
_SAMPLES = 64
"""Samples that the error is measured on, for each scale; at least one pair where they are pairs."""
_LOW, _HIGH = 0, 1

Grids = tuple[Tensor, Tensor]
"""Scales and zero points of several candidates, ``(candidate, *groups)``."""


@torch.no_grad()
def search_input_range(
    pair: BlockPair,
    name: str,
    weight: Float[Tensor, "d_out d_in"],
    data: BlockData,
    weights: Float[Tensor, " sample"],
    *,
    ends: bool,
) -> Grids:
    """Shrink the range of a layer's input to the shares of it that leave the least squared error of its output.

    Least ``sum_n g_n ||(Q(x_n) - x_n) W^T||^2``: first both ends together, which leaves the zero point; then, if
    ``ends``, the upper end alone and after it the lower one. A scale for each group of timesteps is searched group by
    group. On the samples looked at the result is never worse than the range as it was.

    Args:
        pair: the block; left as it is.
        name: of the layer, whose input is rounded statically.
        weight: float, prepared for the input; of all layers that share the input.
        data: the block's inputs; some of them are looked at.
        weights: of the samples, see `sample_weights`.
        ends: search the ends one by one, too; a symmetric grid has but one.

    Returns:
        Scale and zero point.
    """
    layer = pair.layers[name]
    scale, zero_point = layer.activation_scale, layer.activation_zero_point
    step = max(1, len(data) // (_SAMPLES * scale.numel()))
    chosen = torch.arange(len(data)).unflatten(0, (-1, data.group))[::step].flatten()
    some, weights = data.take(chosen), weights[chosen.to(weights.device)]
    shares = scale.new_ones(2, *scale.shape)
    passes = ((_LOW, _HIGH), (_HIGH,), (_LOW,)) if ends and not layer.config.activation_symmetric else ((_LOW, _HIGH),)
    for moved in passes:
        tried = shares.repeat(len(SHARES), *[1] * shares.ndim)
        for i, share in enumerate(SHARES):
            tried[i, list(moved)] = share
        errors = _errors(pair, name, weight, some, weights, _grids(layer, tried))
        shares = tried.gather(0, errors.argmin(0).expand(1, *shares.shape))[0]
    scales, zero_points = _grids(layer, shares[None])
    return scales[0], zero_points[0].to(zero_point.dtype)


def _grids(layer: QuantizedLinear, shares: Float[Tensor, "candidate end *groups"]) -> Grids:
    """The grids that span these shares of the layer's range, below zero and above it."""
    spec, scale, zero_point = activation_spec(layer.config), layer.activation_scale, layer.activation_zero_point
    low, high = (spec.qmin - zero_point) * scale, (spec.qmax - zero_point) * scale
    together = shares[:, _LOW] == shares[:, _HIGH]
    scales, zero_points = affine_from_range(shares[:, _LOW] * low, shares[:, _HIGH] * high, spec)
    return torch.where(together, shares[:, _LOW] * scale, scales), torch.where(together, zero_point, zero_points)


def _errors(
    pair: BlockPair, name: str, weight: Tensor, data: BlockData, weights: Float[Tensor, " sample"], grids: Grids
) -> Tensor:
    """Squared error of the output with each candidate ``(candidate, *groups)``, over each group's samples.

    ``|e W^T|^2 = e (W^T W) e^T``, whichever is less work.
    """
    layer = pair.layers[name]
    clock, shape = layer.clock, grids[0].shape
    square = weight.T @ weight if len(weight) > weight.shape[1] else None

    def errors_of(chunk: BlockData, rows: slice) -> tuple[Tensor]:
        errors = torch.zeros(shape[0], shape[1:].numel(), dtype=torch.float64, device=weight.device)
        x = by_sample(layer, input_of(pair.block, name, chunk.inputs.on), len(chunk))
        view_weights = chunk.view_weights(weights[rows])
        groups = clock.groups if clock is not None and len(shape) > 1 else None
        groups = torch.zeros(len(chunk)) if groups is None else groups
        group = chunk.view_weights(groups.to(weight)).long()  # the two of a pair have the same timestep
        for i, (scale, zero_point) in enumerate(zip(*grids, strict=True)):
            wrong = chunk.views((round_static(x, scale, zero_point, layer.config, clock) - x).float())
            output = (wrong @ weight.T).square() if square is None else (wrong @ square) * wrong
            errors[i].index_add_(0, group, output.sum((1, 2)).double() * view_weights)
        return (errors,)

    return torch.stack([errors for (errors,) in data.each(weight.device, errors_of)]).sum(0).reshape(shape)
