"""One site rounded in any way that a config knows, beside its product in float; without running the model."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.quantization import LayerConfig
from ptq4dit.model.layers import Layer
from ptq4dit.model.streamed import weights
from ptq4dit.quantized.activation import is_static
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.quantized.ranges import layer_range


@torch.no_grad()
def site_errors(
    site: Layer,
    stats: Calibration,
    config: LayerConfig,
    *,
    factor: Float[Tensor, " channel"] | None = None,
    ranks: Iterable[int] = (0,),
    most_outputs: int | None = None,
) -> dict[int, float]:
    """``||Q(X B) Q(R) + X B (B^-1 W - R) - X W||^2 / ||X W||^2`` over a site's kept rows, by rank of a float branch.

    The branch is the truncated singular value decomposition of each balanced weight, and ``R`` what it leaves; rank 0
    has none, so that ``R = B^-1 W``. Rounding is `QuantizedLinear`'s, as in a converted model: groups, ranges for every
    token and rotation as the config says.

    Args:
        site: a site of the float model that was calibrated.
        stats: its calibration.
        config: bits, granularity, ranges, rotation; its ``rank`` and ``input_factor`` are not read.
        factor: ``b_x`` of the site; ones if None.
        ranks: of the float branch.
        most_outputs: measure on evenly spaced output channels, at most so many of each linear; None for all.

    Raises:
        ValueError: if the calibration kept no rows of the site, or a rank exceeds a weight's.
    """
    scaled = require_rows(stats, site.name) if factor is None else stats.scaled({site.name: factor})
    rows = scaled.samples[site.name].float().flatten(0, 1)
    plain = dataclasses.replace(config, rank=0, input_factor=False)
    wrong, right = dict.fromkeys(ranks, 0.0), 0.0
    for linear in site.linears:
        with weights(linear):
            weight = linear.weight.detach().cpu().float().flatten(1)
        weight = weight if factor is None else weight / factor
        chosen = slice(None, None, stride(len(weight), most_outputs))
        right += float((rows @ weight[chosen].T).square().sum())
        for rank, rest in zip(wrong, remainders(weight, list(wrong)), strict=True):
            wrong[rank] += _squared_error(rows, rest[chosen], site.name, scaled, plain)
    return {rank: error / max(right, torch.finfo(torch.float32).tiny) for rank, error in wrong.items()}


def require_rows(stats: Calibration, site: str) -> Calibration:
    """The statistics themselves.

    Raises:
        ValueError: if they have no token rows of that site.
    """
    if site not in stats.samples or not stats.samples[site].numel():
        raise ValueError(
            f"This calibration kept no rows of {site}'s input, on which rounding is measured. Calibrate again."
        )
    return stats


def stride(outputs: int, most: int | None) -> int:
    """Every how manyeth output channel is measured so that there are at most ``most``."""
    return 1 if most is None else max(1, math.ceil(outputs / most))


def remainders(weight: Float[Tensor, "d_out d_in"], ranks: Sequence[int]) -> list[Float[Tensor, "d_out d_in"]]:
    """What is left of a weight without its largest singular part of each rank, from one decomposition.

    Raises:
        ValueError: if the weight has no such rank.
    """
    if max(ranks) > min(weight.shape):
        raise ValueError(
            f"Expected ranks of at most {min(weight.shape)} for a weight {tuple(weight.shape)}, got {max(ranks)}."
        )
    if not any(ranks):
        return [weight] * len(ranks)
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return [weight - (u[:, :rank] * s[:rank]) @ v[:rank] if rank else weight for rank in ranks]


def _squared_error(rows: Tensor, weight: Tensor, site: str, stats: Calibration, config: LayerConfig) -> float:
    """``||Q(X) Q(W) - X W||^2``."""
    like = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta").to_empty(device="cpu")
    like.weight.copy_(weight)
    empty = QuantizedLinear(like, config)
    limits = layer_range(stats, site, config, [slice(None)], empty.rotation) if is_static(config) else None
    rounded = QuantizedLinear.from_float(like, config, limits)
    return float((rounded(rows) - rows @ weight.T).square().sum())
