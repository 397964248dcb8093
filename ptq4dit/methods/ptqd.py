"""PTQD: Q-Diffusion, whose noise prediction the sampler then corrects for its mean error at each timestep.

Simplified: the mixed-precision choice of steps is left out, so that all methods run at the same bits.
"""

from dataclasses import replace

from ptq4dit.methods import qdiffusion
from ptq4dit.methods.method import Job, Method
from ptq4dit.model.bundle import Dit
from ptq4dit.sampling.noise_correction import estimate_noise_correction


def run(job: Job) -> Dit:
    """Quantize as Q-Diffusion does, then compare both models' predictions along float trajectories."""
    model = qdiffusion.run(job)
    data = job.data
    shape = tuple(data.latents.shape[1:])
    correction = estimate_noise_correction(
        job.dit, model, data.timesteps, lambda rows: data.call(rows, job.dit.device), shape
    )
    return replace(model, noise_correction=correction)


METHOD = Method(
    name="ptqd",
    title="PTQD",
    citation="He et al. 2023, arXiv 2305.10657",
    summary="The sampler removes the part of the quantization noise that is correlated or biased.",
    inference="one multiplication and one addition for every latent value",
    prepare=qdiffusion.prepare,
    run=run,
    place=50,
    learns="shared",
)
