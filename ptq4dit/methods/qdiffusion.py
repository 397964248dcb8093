"""Q-Diffusion: calibration data over all timesteps and block-wise reconstruction, without balancing.

Simplified: its split of concatenated shortcuts has no place in a DiT, which has none. Without a reconstruction in the
config the closed form stands in for AdaRound's 20,000 steps (``ReconstructionConfig.paper()``).
"""

from dataclasses import replace

from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.methods.method import Job, Method
from ptq4dit.model.bundle import Dit


def prepare(config: QuantConfig) -> QuantConfig:
    """Least squares ranges, then reconstruction with the wanted settings or the default ones."""
    reconstruction = config.reconstruction or ReconstructionConfig()
    return replace(
        config, csb=False, ssc=False, weight_range="mse", activation_range="mse", reconstruction=reconstruction
    )


def run(job: Job) -> Dit:
    """Round, then learn the rounding."""
    return job.reconstructed(job.converted())


METHOD = Method(
    name="qdiffusion",
    title="Q-Diffusion",
    citation="Li et al. 2023, arXiv 2302.04304",
    summary="Rounding and scales are learned block by block on data of all timesteps.",
    inference="nothing",
    prepare=prepare,
    run=run,
    place=40,
    learns="shared",
)
