"""Draw images from a diffusion transformer: one generator that yields every denoising step.

A class-conditional DiT has its own loop here, with guidance as in DiT; any other family is sampled by its stock
diffusers pipeline, see `pipeline_run`.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ptq4dit.config.base import plain_list, plain_number
from ptq4dit.model.bundle import Bundle
from ptq4dit.model.pipelines import takes
from ptq4dit.sampling.pipeline_run import decode_with_pipeline, run_pipeline
from ptq4dit.sampling.predictor import run_of
from ptq4dit.sampling.prompts import Prompts
from ptq4dit.sampling.request import require_request
from ptq4dit.sampling.schedule import SAMPLERS as SAMPLERS
from ptq4dit.sampling.schedule import clean_latents, fresh_scheduler, scaled, step_arguments, step_timesteps, whole_step
from ptq4dit.sampling.seeds import image_generator
from ptq4dit.sampling.state import DenoiseState, finite, require_finite

Predictor = Callable[[Tensor, int | float], Tensor]
"""(latents, timestep) -> the model's prediction with guidance, same shape."""

Labels = Any
"""A list, an array or a tensor of class indices; looked at by `require_request`, which says what is wrong."""

_STEPS, _GUIDANCE = 50, 4.0
"""Of a class-conditional DiT; a pipeline has its own."""


def denoise(
    model: Bundle,
    class_labels: Labels | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
    sampler: str | None = None,
    cancelled: Callable[[], bool] | None = None,
    *,
    prompts: Prompts | None = None,
    options: Mapping[str, Any] | None = None,
    first_index: int = 0,
    whole: bool = False,
) -> Iterator[DenoiseState]:
    """Denoise one image per class label or prompt, yielding after every step. Arguments are checked at the call.

    Class labels: equals diffusers' ``DiTPipeline`` given the same noise. With a model that also predicts variances
    (twice as many output channels as input channels), these are not used, as in diffusers. Prompts: it *is* the stock
    pipeline, given one generator for each image.

    Args:
        model: what `ptq4dit.load` or `ptq4dit.quantize` gave.
        class_labels: class index of each image, for a class-conditional model; a list, an array or a tensor.
        steps: sampling steps; None for 50, or the pipeline's own.
        guidance_scale: 1.0 means no guidance, above 1.0 classifier-free guidance; None for 4.0, or the pipeline's own.
        seed: at least 0. Image i depends on (seed, ``first_index + i``) and its class or prompt only, not on the batch.
        sampler: ``"ddim"``, ``"ddpm"`` or ``"dpm++"``; None for the model's own. Class-conditional models only.
        cancelled: asked before every step; the generator ends at once when it says True.
        prompts: text of each image, or what `encode_prompts` gave, for a text-conditioned model.
        options: further arguments of the pipeline's call, ``{"height": 512, "negative_prompt": "blurred"}``; they go
            before ``model.options``.
        first_index: index of the first image.
        whole: call the transformer itself at every step, for who watches it; text-conditioned models always are.
            Latents that are not finite are let pass: who watches can say which layer made them.

    Yields:
        One `DenoiseState` after each step.

    Raises:
        ValueError: for a request that the model cannot be sampled with; while it runs, once latents are not finite.
    """
    steps, seed, guidance_scale = plain_number(steps), plain_number(seed), plain_number(guidance_scale)
    class_labels = plain_list(class_labels)
    require_request(model, class_labels, prompts, steps, guidance_scale, seed, sampler)
    if prompts is not None:
        states = run_pipeline(
            model,
            prompts,
            [(seed, first_index + i) for i in range(len(prompts))],
            steps=steps,
            guidance_scale=guidance_scale,
            options={**model.options, **(options or {})},
            cancelled=cancelled,
        )
        return states if whole else finite(states)
    if options:
        raise ValueError(f"Expected no pipeline options with class labels, got {sorted(options)}.")
    scheduler = make_scheduler(model, _STEPS if steps is None else steps, sampler)
    labels, scale = list(class_labels or ()), _GUIDANCE if guidance_scale is None else guidance_scale
    generators = [image_generator(seed, first_index + i) for i in range(len(labels))]
    predict = guided(model, labels, scale, scheduler.timesteps.tolist(), whole=whole)
    states = _denoise(predict, scheduler, initial_noise(model, generators), generators, cancelled)
    return states if whole else finite(states)


def generate(
    model: Bundle,
    class_labels: Labels | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
    sampler: str | None = None,
    *,
    prompts: Prompts | None = None,
    options: Mapping[str, Any] | None = None,
) -> Float[Tensor, "image 3 height width"]:
    """Draw one image per class label or prompt; the arguments are those of `denoise`.

    Returns:
        ``(n, 3, height, width)`` in [0, 1].
    """
    states = denoise(model, class_labels, steps, guidance_scale, seed, sampler, prompts=prompts, options=options)
    return decode(model, deque(states, maxlen=1)[0].latents, options)


@torch.no_grad()
def decode(
    model: Bundle,
    latents: Float[Tensor, "image channel latent_height latent_width"] | Tensor,
    options: Mapping[str, Any] | None = None,
) -> Float[Tensor, "image 3 height width"]:
    """Latents to pictures as the model's pipeline does it, clamped to [0, 1].

    Args:
        model: the bundle.
        latents: of a `DenoiseState`, packed or not.
        options: those that `denoise` was given: some pipelines need ``height`` and ``width``.

    Raises:
        ValueError: if the autoencoder makes no finite picture of them.
    """
    if model.text_conditioned:
        pictures = decode_with_pipeline(model, latents, {**model.options, **(options or {})})
    else:
        decoded = model.vae.decode(latents / model.vae.config.scaling_factor).sample
        pictures = (decoded / 2 + 0.5).clamp(0, 1)
    require_finite(pictures, "pictures")
    return pictures


def guided(
    model: Bundle,
    class_labels: Sequence[int],
    guidance_scale: float,
    timesteps: Sequence[int | float] = (),
    *,
    whole: bool = False,
) -> Predictor:
    """The model's prediction for these classes, with classifier-free guidance when the scale is above 1.

    Guidance evaluates the class half and the null-class half in one batch, in this order. A correction of the model's
    quantization noise acts on each half, before guidance. Timesteps that are known beforehand are embedded at once.
    """
    channels = model.latent_shape[0]
    labels = torch.tensor(list(class_labels), device=model.device)
    if guidance_scale > 1:
        labels = torch.cat([labels, torch.full_like(labels, model.null_class)])

    output = run_of(model.transformer, timesteps, labels, whole=whole)

    def predict(latents: Tensor, timestep: int | float) -> Tensor:
        batch = torch.cat([latents, latents]) if guidance_scale > 1 else latents
        prediction = output(batch, timestep)[:, :channels]
        if model.noise_correction is not None:
            prediction = model.noise_correction.correct(prediction, timestep)
        if guidance_scale <= 1:
            return prediction
        conditional, unconditional = prediction.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    return predict


def default_settings(model: Bundle) -> tuple[int, float | None]:
    """Sampling steps and guidance scale of a run that is not told otherwise; None for a pipeline that has none."""
    if not model.text_conditioned:
        return _STEPS, _GUIDANCE
    known = takes(model.stock)
    scales = [known[name].default for name in ("guidance_scale", "true_cfg_scale") if name in known]
    return known["num_inference_steps"].default, next((scale for scale in scales if scale is not None), None)


def make_scheduler(model: Bundle, steps: int, sampler: str | None) -> Any:
    """A fresh diffusers scheduler with its timesteps set; the model's own one is not touched."""
    return fresh_scheduler(model.scheduler, steps, sampler)


def initial_noise(
    model: Bundle, generators: Sequence[torch.Generator]
) -> Float[Tensor, "image channel latent_height latent_width"]:
    """Unit Gaussian latents, one image per generator."""
    noise = [torch.randn(model.latent_shape, generator=g, dtype=model.dtype) for g in generators]
    return torch.stack(noise).to(model.device)


def _denoise(
    predict: Predictor,
    scheduler: Any,
    latents: Tensor,
    generators: list[torch.Generator],
    cancelled: Callable[[], bool] | None,
) -> Generator[DenoiseState, None, None]:
    latents = latents * getattr(scheduler, "init_noise_sigma", 1.0)
    begins = iter(step_timesteps(scheduler))
    evaluations = iter(range(len(scheduler.timesteps)))
    for step, timestep in enumerate(begins, start=1):
        if cancelled is not None and cancelled():
            return
        latents, clean = _advance(predict, scheduler, latents, generators, evaluations)
        yield DenoiseState(step=step, timestep=timestep, latents=latents, clean=clean)


@torch.no_grad()
def _advance(
    predict: Predictor, scheduler: Any, latents: Tensor, generators: list[torch.Generator], evaluations: Iterator[int]
) -> tuple[Tensor, Callable[[], Tensor]]:
    """One whole step; second-order schedulers evaluate the model twice in it."""
    first: Callable[[], Tensor] | None = None
    for evaluation in evaluations:
        timestep = scheduler.timesteps[evaluation]
        prediction = predict(scaled(scheduler, latents, timestep), timestep.item())
        first = first or partial(clean_latents, scheduler, evaluation, prediction, latents)
        settings = step_arguments(scheduler, generators)
        latents = scheduler.step(prediction, timestep, latents, **settings).prev_sample
        if whole_step(scheduler, evaluation):
            break
    assert first is not None
    return latents, first
