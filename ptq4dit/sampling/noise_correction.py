"""PTQD's correction: take the correlated part and the mean of the quantization noise out of the noise prediction.

Simplified: the variance of what is left is measured and stored, but not taken out of the sampler's own noise:
diffusers' schedulers have no place for it, and the demo's DDIM is deterministic.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ptq4dit.model.bundle import Dit

_NAMES = ("timesteps", "correlation", "bias", "variance")


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseCorrection:
    """``eps_q = (1 + k_t) eps + r_t``: PTQD's split of a quantized prediction (He et al. 2023, eqs. 9-12).

    Attributes:
        timesteps: ``(T,)``, ascending.
        correlation: ``k_t``, ``(T,)``.
        bias: mean of the residual for each latent channel, ``(T, channels)``.
        variance: variance of the residual around it, ``(T,)``.
    """

    timesteps: Int[Tensor, " timestep"]
    correlation: Float[Tensor, " timestep"]
    bias: Float[Tensor, "timestep channel"]
    variance: Float[Tensor, " timestep"]

    def correct(self, noise: Float[Tensor, "n channel height width"], timestep: int | float) -> Tensor:
        """``(eps_q - E[r_t]) / (1 + k_t)``, values between calibrated timesteps interpolated linearly."""
        k, bias = self._at(self.correlation[:, None], timestep), self._at(self.bias, timestep)
        return (noise - bias.to(noise)[None, :, None, None]) / (1 + k.to(noise))

    def tensors(self) -> dict[str, Tensor]:
        """The fields, for saving."""
        return {name: getattr(self, name) for name in _NAMES}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> "NoiseCorrection":
        """What `tensors` gave."""
        return NoiseCorrection(**{name: tensors[name] for name in _NAMES})

    def _at(self, values: Tensor, timestep: int | float) -> Tensor:
        above = int(torch.searchsorted(self.timesteps.double(), float(timestep)).clamp(max=len(self.timesteps) - 1))
        below = max(0, above - 1)
        gap = int(self.timesteps[above] - self.timesteps[below])
        share = 1.0 if gap == 0 else min(1.0, max(0.0, (timestep - int(self.timesteps[below])) / gap))
        return torch.lerp(values[below], values[above], share)


@torch.no_grad()
def estimate_noise_correction(
    dit: Dit,
    model: Dit,
    latents: Float[Tensor, "sample channel height width"],
    timesteps: Int[Tensor, " sample"],
    labels: Int[Tensor, " sample"],
) -> NoiseCorrection:
    """Compare both models' predictions for the same inputs, timestep by timestep.

    ``k_t`` is the slope of the quantization noise ``eps_q - eps`` on ``eps`` (least squares through the means).

    Args:
        dit: the float bundle.
        model: the quantized one.
        latents, timesteps, labels: inputs along float trajectories, as `trajectories.collect` gives them.
    """
    rows = []
    times = timesteps.unique()
    for time in times:
        chosen = timesteps == time
        given = latents[chosen], time.expand(int(chosen.sum())), labels[chosen]
        exact, rounded = _predict(dit, *given), _predict(model, *given)
        rows.append(_split(exact.double(), rounded.double()))
    correlation, bias, variance = (torch.stack(values).float() for values in zip(*rows, strict=True))
    return NoiseCorrection(timesteps=times, correlation=correlation, bias=bias, variance=variance)


def _split(exact: Tensor, rounded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``k``, the residual's mean per channel and its variance, for one timestep."""
    error = rounded - exact
    centred = exact - exact.mean()
    slope = (centred * (error - error.mean())).mean() / centred.square().mean().clamp(min=1e-30)
    residual = error - slope * exact
    bias = residual.mean(dim=(0, 2, 3))
    return slope, bias, (residual - bias[:, None, None]).square().mean()


def _predict(dit: Dit, latents: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
    parts = zip(latents.split(32), timesteps.split(32), labels.split(32), strict=True)
    device, channels = dit.device, dit.latent_shape[0]
    return torch.cat(
        [
            dit.transformer(x.to(device, dit.dtype), timestep=t.to(device), class_labels=y.to(device))
            .sample[:, :channels]
            .cpu()
            for x, t, y in parts
        ]
    )
