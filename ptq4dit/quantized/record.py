"""What made a quantized model: kept on it, saved with it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import LayerConfig, QuantConfig
from ptq4dit.model.layers import Layer
from ptq4dit.paper.ssc import spearman_rho


@dataclass(frozen=True, kw_only=True)
class QuantRecord:
    """What made a quantized transformer; kept on it as ``transformer.ptq4dit_record``.

    Attributes:
        config: how it was quantized.
        calibration: how its statistics were gathered.
        statistics: `summarize` of them.
        model: fingerprint of the float transformer that it was made from.
        layers: the quantized layers in model order: name -> paths in the transformer.
        settings: how each of them is quantized.
    """

    config: QuantConfig
    calibration: CalibrationConfig
    statistics: Mapping[str, int | float]
    model: str
    layers: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, LayerConfig]


def summarize(stats: Calibration, layers: Mapping[str, Layer]) -> dict[str, int | float]:
    """A calibration in a few numbers.

    ``layers``, ``timesteps`` and ``rows`` (token rows kept of each layer and timestep) count; ``first_timestep`` is the
    noisiest one; ``mean_spearman_rho`` and ``min_spearman_rho`` are of activation and weight salience, over the layers
    that something in front can balance (all, if none) and all timesteps: the lower, the more complementary (PTQ4DiT
    eq. 11); ``largest_activation`` is over all layers.
    """
    absorbing = [name for name in stats.layers if layers[name].absorbs]
    balanced = absorbing or stats.layers
    rho = torch.stack([spearman_rho(stats.activation_salience[n], stats.weight_salience[n]) for n in balanced])
    return {
        "layers": len(stats.layers),
        "timesteps": len(stats.timesteps),
        "first_timestep": stats.timesteps[0].item(),
        "last_timestep": stats.timesteps[-1].item(),
        "rows": int(next(iter(stats.samples.values())).shape[1]),
        "mean_spearman_rho": round(float(rho.mean()), 4),
        "min_spearman_rho": round(float(rho.min()), 4),
        "largest_activation": float(max(salience.max() for salience in stats.activation_salience.values())),
    }
