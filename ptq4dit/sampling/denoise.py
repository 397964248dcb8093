"""Draw images from a DiT: one generator that yields every denoising step, with guidance as in DiT."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from jaxtyping import Float
from torch import Tensor

from ptq4dit.config.calibration import require_guidance
from ptq4dit.model.bundle import Dit
from ptq4dit.sampling.predictor import run_of

NoisePredictor = Callable[[Tensor, int], Tensor]
"""(latents, timestep) -> predicted noise, same shape."""

SAMPLERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "ddpm": (DDPMScheduler, {}),
    "dpm++": (DPMSolverMultistepScheduler, {"timestep_spacing": "linspace"}),
}
"""Sampler name -> diffusers scheduler class, and what it is given beyond the model's own scheduler config."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DenoiseState:
    """Where sampling stands after one step.

    Attributes:
        step: 1 to ``steps``.
        timestep: the training timestep (0 to 999) at which the model was evaluated in this step.
        latents: ``(n, channels, height, width)`` after the step.
        denoised: the clean latents that the model predicts at this step, same shape:
            ``(x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)``.
    """

    step: int
    timestep: int
    latents: Tensor
    denoised: Tensor


def denoise(
    model: Dit,
    class_labels: Sequence[int],
    steps: int = 50,
    guidance_scale: float = 4.0,
    seed: int = 0,
    sampler: str | None = None,
    cancelled: Callable[[], bool] | None = None,
    *,
    first_index: int = 0,
) -> Iterator[DenoiseState]:
    """Denoise one image per class label, yielding after every step. Arguments are checked at the call.

    Equals diffusers' ``DiTPipeline`` given the same noise. With a model that also predicts variances (twice as many
    output channels) only the noise half is used, as ``DiTPipeline`` does.

    Args:
        model: a float or quantized bundle.
        class_labels: one class index per image.
        steps: 1 to the number of training timesteps.
        guidance_scale: classifier-free guidance, ``eps = eps_null + g (eps_class - eps_null)``; 1.0 means none.
        seed: an image's noise depends on the seed and its index only, not on the other images.
        sampler: None for the model's own scheduler, or ``"ddim"``, ``"ddpm"``, ``"dpm++"``.
        cancelled: asked before every step; once it says True the generator ends.
        first_index: index of the first image, to draw a later part of a larger batch.

    Yields:
        One `DenoiseState` per step.

    Raises:
        ValueError: for a class, number of steps, guidance scale, seed or sampler that cannot be used.
    """
    require_request(model, class_labels, steps, guidance_scale, seed, sampler)
    scheduler = make_scheduler(model, steps, sampler)
    generators = [image_generator(seed, first_index + i) for i in range(len(class_labels))]
    predict = guided(model, class_labels, guidance_scale, [int(t) for t in scheduler.timesteps])
    return _denoise(predict, scheduler, initial_noise(model, generators), generators, cancelled)


def generate(
    model: Dit,
    class_labels: Sequence[int],
    steps: int = 50,
    guidance_scale: float = 4.0,
    seed: int = 0,
    sampler: str | None = None,
) -> Float[Tensor, "image 3 height width"]:
    """Draw one image per class label; the arguments are those of `denoise`.

    Returns:
        ``(n, 3, height, width)`` in [0, 1].
    """
    *_, last = denoise(model, class_labels, steps, guidance_scale, seed, sampler)
    return decode(model, last.latents)


@torch.no_grad()
def decode(
    model: Dit, latents: Float[Tensor, "image channel latent_height latent_width"]
) -> Float[Tensor, "image 3 height width"]:
    """Latents to pictures through the VAE, clamped to [0, 1]."""
    decoded = model.vae.decode(latents / model.vae.config.scaling_factor).sample
    return (decoded / 2 + 0.5).clamp(0, 1)


def guided(
    model: Dit, class_labels: Sequence[int], guidance_scale: float, timesteps: Sequence[int] = ()
) -> NoisePredictor:
    """The model's noise prediction for these classes, with classifier-free guidance when the scale is above 1.

    Guidance evaluates the class half and the null-class half in one batch, in this order. A correction of the model's
    quantization noise acts on each half, before guidance. Timesteps that are known beforehand are embedded at once.
    """
    channels = model.latent_shape[0]
    labels = torch.tensor(list(class_labels), device=model.device)
    if guidance_scale > 1:
        labels = torch.cat([labels, torch.full_like(labels, model.null_class)])

    output = run_of(model.transformer, timesteps, labels)

    def predict(latents: Tensor, timestep: int) -> Tensor:
        batch = torch.cat([latents, latents]) if guidance_scale > 1 else latents
        noise = output(batch, timestep)[:, :channels]
        if model.noise_correction is not None:
            noise = model.noise_correction.correct(noise, timestep)
        if guidance_scale <= 1:
            return noise
        conditional, unconditional = noise.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    return predict


def make_scheduler(model: Dit, steps: int, sampler: str | None) -> Any:
    """A fresh diffusers scheduler with its timesteps set; the model's own one is not touched."""
    own = model.scheduler
    scheduler_class, overrides = (type(own), {}) if sampler is None else SAMPLERS[sampler]
    scheduler = scheduler_class.from_config(own.config, **overrides)
    scheduler.set_timesteps(steps)
    if len(set(scheduler.timesteps.tolist())) != steps:
        raise ValueError(
            f"Expected fewer steps: {steps} of them make {sampler or type(own).__name__} visit a timestep twice."
        )
    return scheduler


def image_generator(seed: int, index: int, *stream: int) -> torch.Generator:
    """The random generator of one image: a function of (seed, index) only, on the CPU whatever the model's device.

    ``stream`` (first number not 0) names an independent generator of the same image, for other draws than its noise.
    """
    state = np.random.SeedSequence([seed, index, *stream]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) % 2**63)


def initial_noise(
    model: Dit, generators: Sequence[torch.Generator]
) -> Float[Tensor, "image channel latent_height latent_width"]:
    """Unit Gaussian latents, one image per generator."""
    noise = [torch.randn(model.latent_shape, generator=g, dtype=model.dtype) for g in generators]
    return torch.stack(noise).to(model.device)


def require_request(
    model: Dit, class_labels: Sequence[int], steps: int, guidance_scale: float, seed: int, sampler: str | None
) -> None:
    """Refuse a request that cannot be sampled, saying what would be accepted."""
    if not class_labels:
        raise ValueError("Expected at least one class label, got none.")
    for label in class_labels:
        if not isinstance(label, Integral) or not 0 <= label < model.num_classes:
            names = ", ".join(f"{i} {name}" for i, name in list(model.id2label.items())[:20])
            raise ValueError(
                f"Expected class labels from 0 to {model.num_classes - 1}, got {label}. The classes are: {names}"
                f"{' ...' if model.num_classes > 20 else ''}."
            )
    longest = int(model.scheduler.config.num_train_timesteps)
    if not isinstance(steps, Integral) or not 1 <= steps <= longest:
        raise ValueError(f"Expected 1 to {longest} sampling steps, got {steps}.")
    require_guidance(guidance_scale)
    if not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"Expected an integer seed of at least 0, got {seed}.")
    if sampler is not None and sampler not in SAMPLERS:
        raise ValueError(f"Expected sampler to be one of {sorted(SAMPLERS)} or None for the model's, got {sampler!r}.")
    if model.scheduler.config.prediction_type != "epsilon":
        raise ValueError(f"Expected a model that predicts noise, got {model.scheduler.config.prediction_type!r}.")


def _denoise(
    predict: NoisePredictor,
    scheduler: Any,
    latents: Tensor,
    generators: list[torch.Generator],
    cancelled: Callable[[], bool] | None,
) -> Iterator[DenoiseState]:
    latents = latents * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps, start=1):
        if cancelled is not None and cancelled():
            return
        latents, denoised = _advance(predict, scheduler, latents, timestep, generators)
        yield DenoiseState(step=step, timestep=int(timestep), latents=latents, denoised=denoised)


@torch.no_grad()
def _advance(
    predict: NoisePredictor, scheduler: Any, latents: Tensor, timestep: Tensor, generators: list[torch.Generator]
) -> tuple[Tensor, Tensor]:
    noise = predict(scheduler.scale_model_input(latents, timestep), int(timestep))
    alpha = scheduler.alphas_cumprod[int(timestep)]
    denoised = (latents - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    return scheduler.step(noise, timestep, latents, generator=generators).prev_sample, denoised
