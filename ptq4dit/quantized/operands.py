"""What one layer multiplies, before and after rounding, for each way of balancing; without running the model."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.balancing import VARIANTS
from ptq4dit.config.quantization import FLOAT_BITS, LayerConfig, QuantConfig
from ptq4dit.model.layers import Layer, balanced_layers, unknown_layer
from ptq4dit.numerics.affine import affine_from_range, fake_quantize
from ptq4dit.quantized.activation import activation_spec, dynamic_grid, is_static, round_dynamic
from ptq4dit.quantized.balance import balances_itself, layer_factor, layer_settings, tied_names
from ptq4dit.quantized.ranges import static_range
from ptq4dit.quantized.weight import expand_weight, quantize_weight

InputGrid = tuple[float, int] | tuple[Float[Tensor, "timestep row grids"], Int[Tensor, "timestep row grids"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Operands:
    """One layer's stored input rows and its weight, balanced, and the same rounded.

    Attributes:
        input: ``(T, rows, d_in)``, ``X B``.
        rounded_input: ``(T, rows, d_in)``, ``Q(X B)``.
        weight: ``(d_out, d_in)``, ``B^-1 W``.
        rounded_weight: ``(d_out, d_in)``, ``Q(B^-1 W)``.
        input_grid: scale and zero point of the input's grid, counted from its lowest level: two numbers where it is
            one for all, ``(T, rows, 1)`` where every token has its own, ``(T, rows, groups)`` where its groups have;
            None where it has none, or one for each group of timesteps.
        weight_grid: scale and zero point ``(d_out, groups)`` of the weight's grids; None for a weight left in float.
    """

    input: Float[Tensor, "timestep row channel"]
    rounded_input: Float[Tensor, "timestep row channel"]
    weight: Float[Tensor, "d_out channel"]
    rounded_weight: Float[Tensor, "d_out channel"]
    input_grid: InputGrid | None
    weight_grid: tuple[Float[Tensor, "d_out groups"], Int[Tensor, "d_out groups"]] | None


@torch.no_grad()
def layer_operands(
    transformer: nn.Module,
    stats: Calibration,
    layer: str,
    config: QuantConfig,
    variant: str,
    *,
    layers: Mapping[str, Layer] | None = None,
) -> Operands:
    """The operands of one layer, taken alone: its input is the float model's, no factor of another layer acts on it.

    A site that is tied to others has the factor that they share.

    Args:
        transformer: the float model that was calibrated.
        stats: its calibration.
        layer: layer name.
        config: bits and ranges; its ``csb`` and ``ssc`` are replaced by those of the variant.
        variant: one of `VARIANTS`.
        layers: what `balanced_layers` gives of the transformer, for who has it; a model without a family's file
            needs it, as its sites are found by a call.

    Raises:
        ValueError: if there is no such layer.
    """
    csb, ssc = VARIANTS[variant]
    known = balanced_layers(transformer) if layers is None else layers
    if layer not in known:
        raise ValueError(unknown_layer(layer, known))
    site = known[layer]
    weight = torch.cat([linear.weight.detach().cpu().flatten(1) for linear in site.linears])
    way, own = config.timestep_salience, balances_itself(site, dataclasses.replace(config, csb=csb, ssc=ssc))
    tied = tied_names(site, known)
    b_x = layer_factor(stats, site, csb=csb, ssc=ssc, timestep_salience=way, balance_inputs=own, tied=tied)
    b_x = b_x.to(weight.dtype)
    rows, weight = stats.samples[layer].to(weight.dtype) * b_x, weight / b_x
    low, high = stats.activation_min[layer] * b_x, stats.activation_max[layer] * b_x
    settings = layer_settings(site, config)
    rounded, grid = _rounded_input(rows, low, high, settings)
    rounded_weight, weight_grid = _rounded_weight(weight, settings)
    return Operands(
        input=rows,
        rounded_input=rounded,
        weight=weight,
        rounded_weight=rounded_weight,
        input_grid=grid,
        weight_grid=weight_grid,
    )


@torch.no_grad()
def energies(exact: Operands, rounded: Operands) -> tuple[Float[Tensor, " timestep"], Float[Tensor, " timestep"]]:
    """Squared error ``||Q(X) Q(W) - X W||^2`` and squared output ``||X W||^2`` at each timestep, ``(T,)`` both.

    Args:
        exact: operands whose ``input`` and ``weight`` count as right.
        rounded: operands whose rounded ones are compared with them.
    """
    right = exact.input @ exact.weight.T
    wrong = rounded.rounded_input @ rounded.rounded_weight.T - right
    return wrong.square().sum(dim=(1, 2)), right.square().sum(dim=(1, 2))


@torch.no_grad()
def channel_errors(exact: Operands, rounded: Operands) -> Float[Tensor, " channel"]:
    """How far each input channel's share of the product is off, ``(d_in,)``, relative to the whole product.

    ``||Q(X_j) Q(W_j) - X_j W_j||^2 / ||X W||^2`` with column j of X and row j of W: the error that rounding makes in
    that channel alone. Channels' errors cancel or add up in the sum, so these do not add up to the layer's error.

    Args:
        exact: operands whose ``input`` and ``weight`` count as right.
        rounded: operands whose rounded ones are compared with them.
    """
    x, a = exact.input.flatten(0, 1).double(), rounded.rounded_input.flatten(0, 1).double()
    w, b = exact.weight.double(), rounded.rounded_weight.double()
    wrong = (a * a).sum(0) * (b * b).sum(0) - 2 * (a * x).sum(0) * (b * w).sum(0) + (x * x).sum(0) * (w * w).sum(0)
    return (wrong.clamp(min=0) / (x @ w.T).square().sum()).float()


def _rounded_input(rows: Tensor, low: Tensor, high: Tensor, config: LayerConfig) -> tuple[Tensor, InputGrid | None]:
    if config.activation_bits == FLOAT_BITS:
        return rows, None
    spec = activation_spec(config)
    if not is_static(config):
        scale, zero_point = (one.reshape(*rows.shape[:2], -1) for one in dynamic_grid(rows, config))
        return round_dynamic(rows, config), (scale, zero_point - spec.qmin)
    scale, zero_point = affine_from_range(*static_range(low, high, rows, config), spec)
    grid = (float(scale), int(zero_point) - spec.qmin) if scale.numel() == 1 else None
    return fake_quantize(rows, scale, zero_point, spec), grid


def _rounded_weight(weight: Tensor, config: LayerConfig) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    if config.weight_bits == FLOAT_BITS:
        return weight, None
    integers, scale, zero_point = quantize_weight(weight, config)
    return expand_weight(integers, scale, zero_point), (scale, zero_point)
