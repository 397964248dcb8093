"""Static ranges of activations from a calibration: of all timesteps, or of each group of them."""

import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import LayerConfig
from ptq4dit.numerics.affine import AffineSpec, least_squares_range, percentile_range
from ptq4dit.numerics.rotation import Rotation
from ptq4dit.quantized.activation import is_static

_MOMENTUM = 0.9
"""Weight of the past in the moving average over timesteps; PyTorch's own observers use 0.99 over many more batches."""

Range = tuple[Tensor, Tensor]


def static_range(
    low: Float[Tensor, "timestep channel"],
    high: Float[Tensor, "timestep channel"],
    rows: Float[Tensor, "timestep row channel"] | None,
    config: LayerConfig,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """One range for all the given timesteps.

    - ``"minmax"``: the extremes.
    - ``"moving"``: ``r_t = 0.9 r_(t-1) + 0.1 extreme_t`` in sampling order, starting at the first extreme.
    - ``"percentile"``, ``"mse"``: the range that rounds the kept rows with the least squared error; without rows the
      extremes.

    Args:
        low, high: extremes of every channel at every timestep.
        rows: kept token rows, in the same order of timesteps.
        config: bits, symmetry and the way to choose.
    """
    smallest, largest = low.amin(), high.amax()
    if config.activation_range == "moving":
        return _moving_average(low.amin(dim=1)), _moving_average(high.amax(dim=1))
    if config.activation_range == "minmax" or rows is None or not is_static(config):
        return smallest, largest
    search = least_squares_range if config.activation_range == "mse" else percentile_range
    spec = AffineSpec(bits=config.activation_bits, symmetric=config.activation_symmetric)
    return search(rows.to(low.dtype), smallest, largest, spec)


def grouped_range(
    low: Float[Tensor, "timestep channel"],
    high: Float[Tensor, "timestep channel"],
    rows: Float[Tensor, "timestep row channel"] | None,
    config: LayerConfig,
    groups: list[slice],
) -> tuple[Float[Tensor, "*groups"], Float[Tensor, "*groups"]]:
    """`static_range` of every group of timesteps, ``(groups,)``; or ``()`` where the layer has one for all."""
    if config.activation_granularity != "per_timestep_group":
        return static_range(low, high, rows, config)
    parts = [static_range(low[g], high[g], None if rows is None else rows[g], config) for g in groups]
    return torch.stack([part[0] for part in parts]), torch.stack([part[1] for part in parts])


def layer_range(
    stats: Calibration, site: str, config: LayerConfig, groups: list[slice], rotation: Rotation | None = None
) -> Range:
    """The range of one site's input, of the model that ``stats`` belong to.

    Args:
        stats: calibration of the model that is quantized, after folding.
        site: layer name, or one of ``stats.extra_min``.
        config: the layer's settings.
        groups: slices of ``stats.timesteps``, from `TimestepClock.fit`.
        rotation: the layer's `Rotation`, if it has one: rotated extremes are not known, so those of the rotated rows
            stand for them.
    """
    if site not in stats.activation_min:
        return grouped_range(stats.extra_min[site], stats.extra_max[site], None, config, groups)
    low, high, rows = stats.activation_min[site], stats.activation_max[site], stats.samples[site].to(torch.float32)
    if rotation is not None:
        rows = rotation.apply(rows)
        low, high = rows.amin(dim=1), rows.amax(dim=1)
    return grouped_range(low, high, rows, config, groups)


def _moving_average(extremes: Float[Tensor, " timestep"]) -> Float[Tensor, ""]:
    average = extremes[0]
    for extreme in extremes[1:]:
        average = _MOMENTUM * average + (1 - _MOMENTUM) * extreme
    return average
