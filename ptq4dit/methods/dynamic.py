"""Dynamic per-token ranges: every token is rounded with the range of its own values, found at run time.

Simplified: one scale for each output channel of a weight, where ZeroQuant has one for each group of rows; its
layer-wise distillation is left out.
"""

from dataclasses import replace

from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Method
from ptq4dit.methods.rtn import run


def prepare(config: QuantConfig) -> QuantConfig:
    """Searched weight ranges; nothing about activations is calibrated."""
    return replace(config, csb=False, ssc=False, activation_granularity="per_token")


METHOD = Method(
    name="dynamic",
    title="Dynamic per token",
    citation="Yao et al. 2022 (ZeroQuant), arXiv 2206.01861",
    summary="Every token is rounded with its own range, found at run time; no calibration of activations.",
    inference="a minimum and a maximum for every token in front of every linear",
    prepare=prepare,
    run=run,
    place=110,
    reconstructs=False,
)
