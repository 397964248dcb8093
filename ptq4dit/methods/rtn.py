"""Round-to-nearest: full ranges, nearest integers, nothing else.

Simplified: nothing; weights have one range for each output channel, activations one for the tensor.
"""

from dataclasses import replace

from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Job, Method
from ptq4dit.model.bundle import Dit


def prepare(config: QuantConfig) -> QuantConfig:
    """Smallest and largest values are the range, of weights and activations."""
    return replace(config, csb=False, ssc=False, weight_range="minmax", activation_range="minmax")


def run(job: Job) -> Dit:
    """Round."""
    return job.converted()


METHOD = Method(
    name="rtn",
    title="Round to nearest",
    citation="Jacob et al. 2018, arXiv 1712.05877",
    summary="Full ranges and nearest integers: what every other method is measured against.",
    inference="nothing",
    prepare=prepare,
    run=run,
    place=10,
    reconstructs=False,
)
