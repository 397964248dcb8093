"""What rounding does to one layer, worked out once: errors, values on their grids, the error of each channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from app.services.cache import shared
from app.services.models import explored
from app.services.rounding import weight_grid
from app.services.sites import require_layer, sites, variants_of

if TYPE_CHECKING:
    from ptq4dit.quantized.operands import Operands

BINS = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerErrors:
    """Relative output error ||XW - Q(X)Q(W)||^2 / ||XW||^2 of one layer, simulated, keyed none / csb / csb+ssc.

    overall: one number a variant; over_time: (t,) a variant.
    """

    overall: Mapping[str, float]
    over_time: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerEffect:
    """One layer's rounding, simulated, keyed none / csb / csb+ssc; a layer that is not balanced has the first only.

    errors: of the whole output; channels: (channel,) error that rounding makes in each; inputs, weights: histograms
    with low, high and counts, and the first level, step and number of levels where there is a grid; input_steps,
    weight_steps: the step of the input's grid, the median of the tokens' or output channels' own, where there is one.
    """

    errors: LayerErrors
    channels: Mapping[str, np.ndarray]
    inputs: Mapping[str, dict[str, Any]]
    weights: Mapping[str, dict[str, Any]]
    input_steps: Mapping[str, float]
    weight_steps: Mapping[str, float]


@shared(maxsize=256)
def layer_effect(
    model: str, layer: str, weight_bits: int, activation_bits: int, strength: int, tokens: bool = False
) -> LayerEffect:
    """The effect of rounding on one layer with each way of balancing. Raises ValueError for an unknown layer."""
    from ptq4dit.quantized.operands import channel_errors, energies

    require_layer(model, layer)
    ways = variants_of(model, layer)
    operands = {name: rounded(model, layer, name, weight_bits, activation_bits, strength, tokens) for name in ways}
    exact = operands["none"]
    energy = {name: tuple(np.asarray(part) for part in energies(exact, one)) for name, one in operands.items()}
    return LayerEffect(
        errors=LayerErrors(
            overall={name: float(wrong.sum() / right.sum()) for name, (wrong, right) in energy.items()},
            over_time={name: wrong / right for name, (wrong, right) in energy.items()},
        ),
        channels={name: np.asarray(channel_errors(exact, one)) for name, one in operands.items()},
        inputs={name: _input_histogram(one, activation_bits) for name, one in operands.items()},
        weights={name: _weight_histogram(one, weight_bits) for name, one in operands.items()},
        input_steps=_steps({name: one.input_grid for name, one in operands.items()}),
        weight_steps=_steps({name: one.weight_grid for name, one in operands.items()}),
    )


def rounded(
    model: str, layer: str, variant: str, weight_bits: int, activation_bits: int, strength: int, tokens: bool = False
) -> Operands:
    """What the layer multiplies, balanced as the variant says, before and after rounding."""
    import ptq4dit
    from ptq4dit.config.quantization import FLOAT_BITS
    from ptq4dit.quantized.operands import layer_operands
    from ptq4dit.quantized.weight import expand_weight, round_weight

    chosen = explored(model, strength)
    inputs = ptq4dit.QuantConfig(weight_bits=FLOAT_BITS, activation_bits=activation_bits, **granularity(tokens))
    layers = sites(model, strength)
    operands = layer_operands(chosen.dit.transformer, chosen.stats, layer, inputs, variant, layers=layers)
    if weight_bits == FLOAT_BITS:
        return operands
    settings = ptq4dit.QuantConfig(weight_bits=weight_bits).layer(layer)
    scale, zero_point = weight_grid(model, layer, operands.weight, settings, variant, strength)
    integers = round_weight(operands.weight, scale, zero_point, weight_bits)
    weight = expand_weight(integers, scale, zero_point)
    return replace(operands, rounded_weight=weight, weight_grid=(scale, zero_point))


def granularity(tokens: bool) -> dict[str, Any]:
    """The settings of inputs: as the integer kernels of processors round for every token, or one grid for all."""
    from ptq4dit.config.quantization import PER_TOKEN

    return dict(PER_TOKEN) if tokens else {}


def _steps(grids: Mapping[str, Any]) -> dict[str, float]:
    """The median step of each grid that there is: a scale, or many, and their zero points."""
    return {name: float(np.median(np.asarray(grid[0]))) for name, grid in grids.items() if grid is not None}


def _input_histogram(operands: Any, bits: int) -> dict[str, Any]:
    """The input's values with the levels of its one grid, or in steps of each token's own."""
    values, grid = np.asarray(operands.input), operands.input_grid
    if grid is None:
        return _histogram(values.ravel())
    if not isinstance(grid[0], float):
        return _in_steps(values, np.asarray(grid[0]), np.asarray(grid[1]), 2**bits - 1)
    scale, zero_point = grid
    return _spanned(_histogram(values.ravel()), values.ravel(), -zero_point * scale, scale, 2**bits)


def _weight_histogram(operands: Any, bits: int) -> dict[str, Any]:
    """The weight's values in steps of their output channel's grid."""
    weight = np.asarray(operands.weight)
    if operands.weight_grid is None:
        return _histogram(weight.ravel())
    scale, zero_point = operands.weight_grid
    return _in_steps(weight, np.asarray(scale), np.asarray(zero_point), 2**bits)


def _in_steps(values: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, levels: int) -> dict[str, Any]:
    """Values in steps of their own grid, so that one grid of integers fits all."""
    steps = np.round(values.reshape(*scale.shape, -1) / scale[..., None] + zero_point[..., None], 3).ravel()
    return _spanned(_histogram(steps), steps, 0.0, 1.0, levels) | {"steps": True}


def _spanned(found: dict[str, Any], values: np.ndarray, first: float, step: float, levels: int) -> dict[str, Any]:
    """The histogram over values and grid alike."""
    low, high = min(found["low"], first), max(found["high"], first + step * (levels - 1))
    return _histogram(values, low, high) | {"first": first, "step": step, "levels": levels}


def _histogram(values: np.ndarray, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """How many values lie in each of BINS equal bins."""
    ends = float(values.min()) if low is None else low, float(values.max()) if high is None else high
    counts, _ = np.histogram(values, bins=BINS, range=ends)
    return {"low": ends[0], "high": ends[1], "counts": counts.tolist()}
