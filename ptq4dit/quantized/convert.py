"""Convert a float DiT into a quantized one."""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from ptq4dit.calibration import Calibration
from ptq4dit.config import CalibrationConfig, QuantConfig
from ptq4dit.dit import Dit
from ptq4dit.linears import balanced_layers
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.quantized.balance import activation_ranges, model_factors
from ptq4dit.quantized.linear import QuantizedLinear


@dataclass(frozen=True, kw_only=True)
class QuantRecord:
    """What made a quantized transformer; kept on it as ``transformer.ptq4dit_record``.

    Attributes:
        config: how it was quantized.
        calibration: how its statistics were gathered.
        model: fingerprint of the float transformer that it was made from.
    """

    config: QuantConfig
    calibration: CalibrationConfig
    model: str


def quantize(dit: Dit, stats: Calibration, config: QuantConfig | None = None) -> Dit:
    """Balance, fold and quantize the four linears of every block (q, k and v are separate linears with one input).

    The salience of all layers is taken from the float model as calibrated; the factors are then folded at once.

    Deviation: q, k, v and the softmax output, and the linears of the conditioning, patch embedding and final layer,
    stay in float, where the released code rounds them as well.

    Args:
        dit: a float bundle, left as it is.
        stats: its calibration.
        config: bits, ranges, CSB, SSC; None for the defaults.

    Returns:
        The bundle with a ``DiTTransformer2DModel`` whose block linears are `QuantizedLinear`.

    Raises:
        ValueError: if the model is quantized already, or ``stats`` belong to another one.
    """
    config = config or QuantConfig()
    stats.require_model(dit.transformer)
    factors = model_factors(stats, config)
    transformer = reparameterize(dit.transformer, factors) if factors else copy.deepcopy(dit.transformer)
    ranges = activation_ranges(stats.rescaled_for(factors, transformer), config)
    for name, layer in balanced_layers(transformer).items():
        for path, linear in zip(layer.paths, layer.linears, strict=True):
            transformer.set_submodule(path, QuantizedLinear.from_float(linear, config, ranges[name]))
    transformer.ptq4dit_record = QuantRecord(config=config, calibration=stats.config, model=stats.model)
    return dit.with_transformer(transformer.eval())


def describe(model: Dit) -> dict[str, Any]:
    """What made a model, as plain JSON values, for whatever shows or stores its results.

    Returns:
        ``{"source", "quantized", ...}``; for a quantized model also ``"label"`` (such as ``"W4A8"``), ``"backend"``,
        ``"config"``, ``"calibration"`` and the ``"model"`` fingerprint.
    """
    record = getattr(model.transformer, "ptq4dit_record", None)
    if record is None:
        return {"source": model.source, "quantized": False, "label": "FP", "dtype": str(model.dtype)}
    return {
        "source": model.source,
        "quantized": True,
        "label": record.config.label,
        "backend": record.config.backend,
        "config": dataclasses.asdict(record.config),
        "calibration": dataclasses.asdict(record.calibration),
        "model": record.model,
        "torch": torch.__version__,
    }
