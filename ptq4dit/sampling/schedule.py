"""What sampling asks of a diffusers scheduler: fresh ones, whole steps, and the clean latents behind a prediction.

A scheduler mixes clean latents and noise, ``x_t = a x_0 + s n``. Which ``a`` and ``s`` belong to a step depends on the
kind of scheduler: from ``alphas_cumprod`` (DDIM, DDPM), from ``sigmas`` with ``a = 1`` (Euler, Heun, LMS), from
``sigmas`` with ``a^2 + s^2 = 1`` or ``a = 1 - s`` (multistep solvers), or ``a = 1 - s`` (flow matching).
"""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

SAMPLERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "ddpm": (DDPMScheduler, {}),
    "dpm++": (DPMSolverMultistepScheduler, {"timestep_spacing": "linspace"}),
}
"""Sampler name -> diffusers scheduler class, and what it is given beyond the model's own scheduler config."""

_PREDICTIONS = ("epsilon", "v_prediction", "sample", "original_sample", "flow_prediction")


_BY_SIGMAS = ("Euler", "HeunDiscrete", "LMSDiscrete", "KDPM2")
"""How the names of schedulers begin that add noise to clean latents as they are."""


def fresh_scheduler(own: Any, steps: int, sampler: str | None) -> Any:
    """A scheduler with its timesteps set; the given one is not touched.

    Args:
        own: the model's diffusers scheduler.
        steps: sampling steps.
        sampler: a name of `SAMPLERS`; None for a copy of ``own``.

    Raises:
        ValueError: if it cannot make that many steps, or cannot be used here.
    """
    if sampler is None:
        scheduler = copy.deepcopy(own)
    else:
        scheduler_class, overrides = SAMPLERS[sampler]
        scheduler = scheduler_class.from_config(own.config, **overrides)
    name = sampler or type(own).__name__
    require_usable(scheduler)
    try:
        scheduler.set_timesteps(steps)
        made = len(set(step_timesteps(scheduler)))
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, ImportError, AttributeError) as error:
        raise ValueError(
            f"Expected a scheduler that can make {steps} steps, got {name}, which says: {error}"
        ) from error
    if made != steps:
        raise ValueError(f"Expected fewer steps: {steps} of them make {name} visit a timestep twice.")
    return scheduler


def require_usable(scheduler: Any) -> None:
    """Refuse a scheduler that cannot sample a class-conditional model reproducibly, in one sentence.

    Raises:
        ValueError: if its prediction is of an unknown kind, or its own noise cannot be tied to a generator.
    """
    kind = prediction_type(scheduler)
    if kind not in _PREDICTIONS or _mixing_kind(scheduler) is None:
        raise ValueError(
            f"Expected a scheduler of diffusers for one of the predictions {_PREDICTIONS}, got "
            f"{type(scheduler).__name__} for {kind!r}."
        )
    needed = [name for name, kind in inspect.signature(scheduler.step).parameters.items() if kind.default is kind.empty]
    if asked := [name for name in needed[3:] if name not in ("args", "kwargs")]:
        raise ValueError(
            f"Expected a scheduler whose step takes prediction, timestep and latents, got {type(scheduler).__name__}, "
            f"which asks for {', '.join(asked)} too. Take another."
        )
    if hasattr(scheduler, "noise_sampler"):
        raise ValueError(
            f"Expected a scheduler whose noise comes from a generator, got {type(scheduler).__name__}, whose noise "
            "differs from run to run. Take EulerAncestralDiscreteScheduler or the sampler 'dpm++'."
        )


def prediction_type(scheduler: Any) -> str:
    """What the model predicts for this scheduler: ``"epsilon"``, ``"v_prediction"``, ``"flow_prediction"`` ..."""
    flow = any("FlowMatch" in kind.__name__ for kind in type(scheduler).__mro__)
    return str(scheduler.config.get("prediction_type", "flow_prediction" if flow else "epsilon"))


def whole_step(scheduler: Any, evaluation: int) -> bool:
    """Whether a step ends with this evaluation of the model (0-based), as diffusers' pipelines count steps.

    Second-order schedulers evaluate the model twice in a step; PNDM twice in its first one.
    """
    last, order = len(scheduler.timesteps) - 1, int(getattr(scheduler, "order", 1))
    extra = max(last + 1 - int(scheduler.num_inference_steps) * order, 0)
    return evaluation == last or (evaluation + 1 > extra and (evaluation + 1) % order == 0)


def step_timesteps(scheduler: Any) -> list[int | float]:
    """The timestep at which each step begins, in the order of sampling."""
    timesteps = scheduler.timesteps.tolist()
    begins = [0] + [i + 1 for i in range(len(timesteps) - 1) if whole_step(scheduler, i)]
    return [timesteps[i] for i in begins]


def step_arguments(scheduler: Any, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """What ``scheduler.step`` is given beside prediction, timestep and latents: generators, if it draws noise."""
    takes = inspect.signature(scheduler.step).parameters
    return {"generator": list(generators)} if "generator" in takes else {}


def scaled(scheduler: Any, latents: Tensor, timestep: Tensor) -> Tensor:
    """The latents as the model is given them: `scale_model_input`, where a scheduler has one."""
    return scheduler.scale_model_input(latents, timestep) if hasattr(scheduler, "scale_model_input") else latents


def clean_latents(scheduler: Any, evaluation: int, prediction: Tensor, latents: Tensor) -> Tensor:
    """The clean latents that a prediction stands for.

    With ``x_t = a x_0 + s n`` and ``r^2 = a^2 + s^2``: ``(x_t - s eps) / a`` for noise, the prediction itself for a
    sample, ``a x_t / r^2 - s v / r`` for a velocity, ``x_t - s v`` for a flow.

    Args:
        scheduler: with its timesteps set; before or after the step, which makes no difference.
        evaluation: which evaluation of the run the prediction is from, 0-based.
        prediction: what the model said.
        latents: the noisy latents before the step, not scaled for the model.

    Raises:
        ValueError: if the kind of scheduler or prediction is not known.
    """
    kind, mixing = prediction_type(scheduler), _mixing(scheduler, evaluation)
    if mixing is None or kind not in _PREDICTIONS:
        raise ValueError(
            f"Expected a scheduler whose steps mix clean latents and noise in a known way, got "
            f"{type(scheduler).__name__} for {kind!r}. The latents of the step are there nevertheless."
        )
    signal, noise = (value.to(latents.device) for value in mixing)
    if kind == "epsilon":
        return (latents - noise * prediction) / signal
    if kind == "v_prediction":
        square = signal**2 + noise**2
        return signal * latents / square - noise * prediction / square.sqrt()
    return latents - noise * prediction if kind == "flow_prediction" else prediction


def _mixing_kind(scheduler: Any) -> str | None:
    """Which formula a scheduler mixes by; None for one that is not known to mix by any of them."""
    names = [kind.__name__ for kind in type(scheduler).__mro__]
    if any("EDM" in name or "Cosine" in name for name in names):
        return None
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        return "solver"
    if any("FlowMatch" in name for name in names):
        return "flow"
    if hasattr(scheduler, "sigmas"):
        return "sigmas" if any(name.startswith(_BY_SIGMAS) for name in names) else None
    return "alphas" if hasattr(scheduler, "alphas_cumprod") else None


def _mixing(scheduler: Any, evaluation: int) -> tuple[Tensor, Tensor] | None:
    """``(a, s)`` of an evaluation."""
    kind = _mixing_kind(scheduler)
    if kind is None:
        return None
    if kind == "alphas":
        kept = scheduler.alphas_cumprod[int(scheduler.timesteps[evaluation])]
        return kept.sqrt(), (1 - kept).sqrt()
    sigma = torch.as_tensor(scheduler.sigmas[evaluation])
    if kind == "solver":
        signal, noise = scheduler._sigma_to_alpha_sigma_t(sigma)
        return torch.as_tensor(signal), torch.as_tensor(noise)
    return (1 - sigma if kind == "flow" else torch.ones_like(sigma)), sigma
