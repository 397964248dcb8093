"""GPTQ: weights are rounded column by column, each column's error made up for by those that follow.

More than the paper: it runs inside the closed form of `ptq4dit.reconstruction.closed_form`. The columns round a least
squares target, quantized inputs against float outputs; coordinate descent, bias and activation scale follow. What
differs from Q-Diffusion in closed form is the range of the activations that it starts from.
"""

from dataclasses import replace

from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.methods.method import Method
from ptq4dit.methods.qdiffusion import run


def prepare(config: QuantConfig) -> QuantConfig:
    """The closed form alone: no gradient step follows it."""
    settings = config.reconstruction or ReconstructionConfig()
    return replace(config, csb=False, ssc=False, reconstruction=replace(settings, start="gptq", steps=0))


METHOD = Method(
    name="gptq",
    title="GPTQ",
    citation="Frantar et al. 2023, arXiv 2210.17323",
    summary="Each weight column's rounding error is made up for by the columns that are rounded after it.",
    inference="nothing",
    prepare=prepare,
    run=run,
    place=80,
    learns="shared",
)
