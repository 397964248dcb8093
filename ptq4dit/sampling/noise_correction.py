"""PTQD's correction: take the correlated part and the mean of the quantization noise out of the noise prediction.

Simplified: the variance of what is left is measured and stored, but not taken out of the sampler's own noise:
diffusers' schedulers have no place for it, and the demo's DDIM is deterministic.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ptq4dit.model.bundle import Dit
from ptq4dit.model.families.family import Call

_NAMES = ("timesteps", "correlation", "bias", "variance")


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseCorrection:
    """``eps_q = (1 + k_t) eps + r_t``: PTQD's split of a quantized prediction (He et al. 2023, eqs. 9-12).

    Attributes:
        timesteps: ``(T,)``, ascending, as the model is given them.
        correlation: ``k_t``, ``(T,)``.
        bias: mean of the residual for each latent channel, ``(T, channels)``.
        variance: variance of the residual around it, ``(T,)``.
    """

    timesteps: Shaped[Tensor, " timestep"]
    correlation: Float[Tensor, " timestep"]
    bias: Float[Tensor, "timestep channel"]
    variance: Float[Tensor, " timestep"]

    def correct(self, noise: Float[Tensor, "n ..."], timestep: float | int) -> Tensor:
        """``(eps_q - E[r_t]) / (1 + k_t)``, values between calibrated timesteps interpolated linearly.

        ``noise`` is ``(n, channel, height, width)`` or ``(n, token, channel)``.
        """
        k, bias = self._at(self.correlation[:, None], timestep), self._at(self.bias, timestep)
        return (noise - _along(bias.to(noise), noise)) / (1 + k.to(noise))

    def tensors(self) -> dict[str, Tensor]:
        """The fields, for saving."""
        return {name: getattr(self, name) for name in _NAMES}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> "NoiseCorrection":
        """What `tensors` gave.

        Raises:
            ValueError: if a field is missing, not finite, or does not fit the others.
        """
        if set(tensors) != set(_NAMES) or not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
            raise ValueError(f"Expected finite {', '.join(_NAMES)} of a noise correction, got others. Quantize again.")
        times, bias = tensors["timesteps"], tensors["bias"]
        rows = all(tensors[name].shape == times.shape for name in ("correlation", "variance"))
        if times.ndim != 1 or not len(times) or bias.ndim != 2 or len(bias) != len(times) or not rows:
            raise ValueError("Expected a row of the noise correction for every timestep, got others. Quantize again.")
        if bool((times.diff() <= 0).any()) or bool((tensors["correlation"] <= -1).any()):
            raise ValueError("Expected ascending timesteps and correlations above -1, got others. Quantize again.")
        return NoiseCorrection(**{name: tensors[name] for name in _NAMES})

    def _at(self, values: Tensor, timestep: int | float) -> Tensor:
        above = int(torch.searchsorted(self.timesteps.double(), float(timestep)).clamp(max=len(self.timesteps) - 1))
        below = max(0, above - 1)
        gap = float(self.timesteps[above] - self.timesteps[below])
        share = 1.0 if gap == 0 else min(1.0, max(0.0, (timestep - float(self.timesteps[below])) / gap))
        return torch.lerp(values[below], values[above], share)


@torch.no_grad()
def estimate_noise_correction(
    dit: Dit,
    model: Dit,
    timesteps: Shaped[Tensor, " sample"],
    call: Callable[[Int[Tensor, " chosen"]], Call],
    shape: tuple[int, ...],
) -> NoiseCorrection:
    """Compare both models' predictions for the same inputs, timestep by timestep.

    ``k_t`` is the slope of the quantization noise ``eps_q - eps`` on ``eps`` (least squares through the means).

    Args:
        dit: the float bundle.
        model: the quantized one.
        timesteps: of inputs along float trajectories, as `trajectories.collect` gives them.
        call: samples -> the call of a transformer for these, on its device.
        shape: of one sample's latents: what a model predicts besides their noise is left out.
    """
    rows = []
    times = timesteps.unique()
    for time in times:
        chosen = (timesteps == time).nonzero()[:, 0]
        exact, rounded = (predicted_noise(bundle.transformer, call, chosen, shape) for bundle in (dit, model))
        rows.append(_split(exact.double(), rounded.double()))
    correlation, bias, variance = (torch.stack(values).float() for values in zip(*rows, strict=True))
    return NoiseCorrection(timesteps=times, correlation=correlation, bias=bias, variance=variance)


def predicted_noise(
    transformer: Any,
    call: Callable[[Int[Tensor, " chosen"]], Call],
    rows: Int[Tensor, " chosen"],
    shape: tuple[int, ...],
) -> Float[Tensor, "chosen ..."]:
    """What a transformer predicts for some samples, on the CPU.

    Args:
        transformer: float or quantized.
        call, shape: as for `estimate_noise_correction`.
        rows: which samples.
    """
    parts = []
    for some in rows.split(32):
        output: Any = call(some).on(transformer)
        noise: Tensor = output[0]
        axis = _channel_axis(noise)
        parts.append(noise.narrow(axis, 0, shape[axis - 1]).cpu())
    return torch.cat(parts)


def _split(exact: Tensor, rounded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``k``, the residual's mean per channel and its variance, for one timestep."""
    error = rounded - exact
    centred = exact - exact.mean()
    slope = (centred * (error - error.mean())).mean() / centred.square().mean().clamp(min=1e-30)
    residual = error - slope * exact
    bias = residual.mean(dim=[axis for axis in range(residual.ndim) if axis != _channel_axis(residual)])
    return slope, bias, (residual - _along(bias, residual)).square().mean()


def _channel_axis(noise: Tensor) -> int:
    """Pictures have their channels behind the samples, tokens at the end."""
    return 1 if noise.ndim > 3 else noise.ndim - 1


def _along(bias: Tensor, noise: Tensor) -> Tensor:
    """A value for every channel, shaped to broadcast."""
    return bias.reshape(-1, *[1] * (noise.ndim - 1 - _channel_axis(noise)))
