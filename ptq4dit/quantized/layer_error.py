"""How far the output of one quantized layer is off, without running the model."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.balancing import VARIANTS
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.quantized.operands import energies, layer_operands


def layer_errors(transformer: nn.Module, stats: Calibration, layer: str, config: QuantConfig) -> dict[str, float]:
    """``||X W - Q(X B) Q(B^-1 W)||^2 / ||X W||^2`` of one layer over its stored rows, for each way of balancing.

    The layer is taken alone: its input is the float model's, and no factor of another layer acts on it. Scales per
    timestep group count as one for all timesteps here.

    Args:
        transformer: the float model that was calibrated.
        stats: its calibration.
        layer: layer name.
        config: bits and ranges; its ``csb`` and ``ssc`` are replaced by those of each variant.

    Returns:
        Relative squared error for ``"none"``, ``"csb"`` and ``"csb+ssc"``; equal for fc2, which is not balanced.

    Raises:
        ValueError: if there is no such layer.
    """
    return {
        variant: float(wrong.sum() / right.sum())
        for variant, (wrong, right) in _energies(transformer, stats, layer, config).items()
    }


def layer_errors_per_timestep(
    transformer: nn.Module, stats: Calibration, layer: str, config: QuantConfig
) -> dict[str, Float[Tensor, " timestep"]]:
    """`layer_errors` at each calibrated timestep, ``(T,)`` per variant."""
    return {variant: wrong / right for variant, (wrong, right) in _energies(transformer, stats, layer, config).items()}


@torch.no_grad()
def _energies(
    transformer: nn.Module, stats: Calibration, layer: str, config: QuantConfig
) -> dict[str, tuple[Tensor, Tensor]]:
    """Variant -> squared error and squared output, ``(T,)`` each."""
    operands = {variant: layer_operands(transformer, stats, layer, config, variant) for variant in VARIANTS}
    return {variant: energies(operands["none"], rounded) for variant, rounded in operands.items()}
