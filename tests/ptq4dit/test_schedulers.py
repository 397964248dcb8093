"""Schedulers of every kind under a DiT: they run, in whole steps, and tell what the model predicts."""

import dataclasses
import inspect

import diffusers
import pytest
import torch

from ptq4dit.sampling.denoise import denoise, make_scheduler
from ptq4dit.sampling.schedule import clean_latents, step_timesteps

NAMES = [
    "DDIM",
    "DDPM",
    "EulerDiscrete",
    "EulerAncestralDiscrete",
    "HeunDiscrete",
    "LMSDiscrete",
    "KDPM2Discrete",
    "KDPM2AncestralDiscrete",
    "DPMSolverMultistep",
    "DPMSolverSinglestep",
    "UniPCMultistep",
    "DEISMultistep",
    "PNDM",
    "LCM",
    "TCD",
    "FlowMatchEulerDiscrete",
    "FlowMatchHeunDiscrete",
]


def scheduler(name, **settings):
    made = getattr(diffusers, f"{name}Scheduler")
    known = inspect.signature(made.__init__).parameters
    settings = {"clip_sample": False, "beta_schedule": "linear", "skip_prk_steps": True, **settings}
    return made(**{key: value for key, value in settings.items() if key in known})


@pytest.mark.parametrize("name", NAMES)
def test_every_scheduler_runs_whole_steps(dit, name):
    model = dataclasses.replace(dit, scheduler=scheduler(name))
    states = list(denoise(model, [0, 3], steps=4, seed=7))
    assert [state.step for state in states] == [1, 2, 3, 4]
    timesteps = [state.timestep for state in states]
    assert timesteps == sorted(set(timesteps), reverse=True)
    assert timesteps == pytest.approx(step_timesteps(make_scheduler(model, 4, None)))
    assert all(state.latents.isfinite().all() for state in states)
    *_, alone = denoise(model, [3], steps=4, seed=7, first_index=1)
    torch.testing.assert_close(alone.latents, states[-1].latents[1:], rtol=1e-3, atol=1e-3)


PREDICTIONS = {
    "epsilon": lambda clean, noise, a, s: noise,
    "sample": lambda clean, noise, a, s: clean,
    "v_prediction": lambda clean, noise, a, s: (a * noise - s * clean) / (a**2 + s**2) ** 0.5,
    "flow_prediction": lambda clean, noise, a, s: noise - clean,
}


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_denoised_is_the_clean_latents_of_a_perfect_model(name, kind):
    """Latents are mixed as the scheduler itself does it, `add_noise` or `scale_noise`: an oracle of diffusers'."""
    flow = {"use_flow_sigmas": True} if kind == "flow_prediction" else {}
    made = scheduler(name, prediction_type=kind, **flow)
    if (kind == "flow_prediction") != ("FlowMatch" in name or made.config.get("use_flow_sigmas", False)):
        pytest.skip("no such scheduler")
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 2, 4, 3, 3, generator=generator).unbind(0)
    one, none = torch.ones(1, 1), torch.zeros(1, 1)

    def mixed(evaluation, first, second):
        made.set_timesteps(6)
        timestep = made.timesteps[evaluation : evaluation + 1]
        if "FlowMatch" in name:
            return made.scale_noise(first, timestep, second)
        return made.add_noise(first, second, timestep.expand(len(first)))

    for evaluation in (0, 2):
        latents = mixed(evaluation, clean, noise)
        shares = mixed(evaluation, one, none), mixed(evaluation, none, one)
        actual = clean_latents(made, evaluation, PREDICTIONS[kind](clean, noise, *shares), latents)
        torch.testing.assert_close(actual, clean, rtol=1e-3, atol=1e-2)


STRANGE = [name for name in dir(diffusers) if name.endswith("Scheduler") and not name.startswith("Flax")]


@pytest.mark.parametrize("name", STRANGE)
def test_whatever_diffusers_has_runs_or_is_refused_in_one_sentence(dit, name):
    try:
        made = getattr(diffusers, name)()
    except (TypeError, ImportError):
        pytest.skip("needs arguments or a package")
    try:
        states = list(denoise(dataclasses.replace(dit, scheduler=made), [0], steps=4))
    except ValueError as error:
        assert "\n" not in str(error) and str(error).startswith("Expected"), error
    else:
        assert states[0].denoised.isfinite().all() and len(states) == 4


def test_fractional_timesteps_reach_the_model(dit):
    seen = []
    hook = dit.transformer.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["timestep"][0].item()), with_kwargs=True
    )
    try:
        model = dataclasses.replace(dit, scheduler=scheduler("EulerDiscrete"))
        states = list(denoise(model, [1], steps=5))
    finally:
        hook.remove()
    assert seen == [state.timestep for state in states] == pytest.approx([999, 749.25, 499.5, 249.75, 0])
    assert all(state.denoised.isfinite().all() for state in states)


def test_euler_equals_diffusers_pipeline(make_dit):
    from diffusers import DiTPipeline

    from ptq4dit.sampling.denoise import generate, image_generator

    dit = make_dit(num_embeds_ada_norm=1000, out_channels=4)
    for name in ("EulerDiscrete", "HeunDiscrete", "UniPCMultistep"):
        model = dataclasses.replace(dit, scheduler=scheduler(name))
        pipeline = DiTPipeline(dit.transformer, dit.vae, scheduler(name))
        pipeline.set_progress_bar_config(disable=True)
        if name == "UniPCMultistep":  # which scales nothing: the pipeline forgets to multiply by init_noise_sigma
            expected = pipeline([7], 3.0, image_generator(2, 0), 4, output_type="pt").images
            torch.testing.assert_close(
                generate(model, [7], steps=4, guidance_scale=3.0, seed=2), expected, rtol=0, atol=2e-5
            )
        else:
            assert generate(model, [7], steps=4, guidance_scale=3.0, seed=2).isfinite().all()
