"""PTQ4DM: calibrate on timesteps drawn from a skewed normal distribution instead of evenly spread ones.

Simplified: the timesteps are a subset of those that the given calibration observed, drawn without repetition; ranges
are searched on the kept rows instead of by the paper's cosine metric.
"""

from dataclasses import replace

import torch

from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.method import Job, Method
from ptq4dit.model.bundle import Dit


def prepare(config: QuantConfig) -> QuantConfig:
    """Least squares ranges on the drawn timesteps."""
    return replace(config, csb=False, ssc=False, weight_range="mse", activation_range="mse")


def drawn_timesteps(timesteps: torch.Tensor, share: float, center: float, seed: int) -> list[int]:
    """Positions of the drawn timesteps, ascending.

    Density: normal around ``center`` times the largest timestep, standard deviation a quarter of it, so that more
    steps near the final picture are seen than pure noise (the paper's normally distributed time steps).

    Args:
        timesteps: ``(T,)``, observed ones.
        share: fraction of them to draw, in (0, 1].
        center: 0 for the picture's end of the trajectory, 1 for the noise.
        seed: of the draw.

    Raises:
        ValueError: for a share that draws none or more than there are.
    """
    if not 0 < share <= 1:
        raise ValueError(f"Expected a share of the timesteps above 0 and up to 1, got {share}.")
    largest = float(timesteps.max()) or 1.0
    density = torch.exp(-((timesteps.double() / largest - center) ** 2) / (2 * 0.25**2))
    count = max(1, round(share * len(timesteps)))
    chosen = torch.multinomial(density, count, generator=torch.Generator().manual_seed(seed))
    return sorted(chosen.tolist())


def run(job: Job) -> Dit:
    """Choose ranges from the drawn timesteps only."""
    share, center = float(job.config.option("share", 0.5)), float(job.config.option("center", 0.4))
    drawn = drawn_timesteps(job.stats.timesteps, share, center, job.stats.config.seed)
    return job.converted(stats=job.stats.at_timesteps(drawn))


METHOD = Method(
    name="ptq4dm",
    title="PTQ4DM",
    citation="Shang et al. 2023, arXiv 2211.15736",
    summary="Ranges come from timesteps drawn by a skewed normal distribution.",
    inference="nothing",
    prepare=prepare,
    run=run,
    place=20,
    reconstructs=False,
    options=("share", "center"),
)
