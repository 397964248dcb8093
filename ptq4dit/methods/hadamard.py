"""Hadamard rotation: spread salient channels over all channels in front of every linear, and undo it in the weight.

Simplified: DiT's adaLN sits between the residual stream and the linears, so no rotation can be folded there; all of
them run online (QuaRot folds most of a language model's).
"""

from dataclasses import replace

from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Method
from ptq4dit.methods.rtn import run


def prepare(config: QuantConfig) -> QuantConfig:
    """Rotate; ranges are searched on the rotated rows."""
    return replace(config, csb=False, ssc=False, rotation=True, weight_range="mse")


METHOD = Method(
    name="hadamard",
    title="Hadamard rotation",
    citation="Ashkboos et al. 2024 (QuaRot), arXiv 2404.00456",
    summary="A fixed rotation spreads every salient channel over all channels before rounding.",
    inference="a Hadamard transform of every token in front of every linear",
    prepare=prepare,
    run=run,
    place=90,
    reconstructs=False,
)
