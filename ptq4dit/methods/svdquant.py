"""SVDQuant: smooth, take the largest singular part of each weight out into a float branch, round what is left.

Simplified: the branch is the truncated singular value decomposition of the smoothed weight, without the paper's
alternating refinement, and is simulated in float32 instead of 16 bits.
"""

from dataclasses import replace

from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Method
from ptq4dit.methods.smoothquant import run


def prepare(config: QuantConfig) -> QuantConfig:
    """A branch of ``rank`` (option, 16): at DiT-XL/2's width the paper's 32 costs 2-6% of the linear."""
    return replace(config, csb=False, ssc=False, rank=config.rank or int(config.option("rank", 16)))


METHOD = Method(
    name="svdquant",
    title="SVDQuant",
    citation="Li et al. 2024, arXiv 2411.05007",
    summary="A small float branch carries the largest singular part of each weight; the rest is rounded.",
    inference="a float product of rank 16 beside every linear",
    prepare=prepare,
    run=run,
    place=100,
    options=("alpha", "rank"),
)
