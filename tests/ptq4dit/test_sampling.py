import dataclasses
import itertools

import pytest
import torch

from ptq4dit.sampling.denoise import SAMPLERS, decode, denoise, generate, image_generator


def pipeline_image(dit, labels, steps, guidance, seed, scheduler=None):
    """diffusers' own result for the same noise; its null class is always 1000."""
    from diffusers import DiTPipeline

    pipeline = DiTPipeline(dit.transformer, dit.vae, scheduler or dit.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    generators = [image_generator(seed, i) for i in range(len(labels))]
    return pipeline(labels, guidance, generators, steps, output_type="pt").images


@pytest.mark.parametrize("out_channels", [4, 8])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_equals_diffusers_pipeline(make_dit, out_channels, guidance):
    dit = make_dit(num_embeds_ada_norm=1000, out_channels=out_channels)
    expected = pipeline_image(dit, [7, 980, 7], 6, guidance, 5)
    actual = generate(dit, [7, 980, 7], steps=6, guidance_scale=guidance, seed=5)
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)
    assert actual.std() > 0.01


def test_dpm_equals_diffusers_pipeline(make_dit):
    from diffusers import DPMSolverMultistepScheduler

    dit = make_dit(num_embeds_ada_norm=1000, out_channels=4)
    scheduler = DPMSolverMultistepScheduler.from_config(dit.scheduler.config, timestep_spacing="linspace")
    expected = pipeline_image(dit, [3], 6, 3.0, 1, scheduler)
    actual = generate(dit, [3], steps=6, guidance_scale=3.0, seed=1, sampler="dpm++")
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("sampler", [None, *SAMPLERS])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_sampler_runs_every_step(dit, sampler, steps):
    states = list(denoise(dit, [0, 4], steps=steps, sampler=sampler))
    assert [state.step for state in states] == list(range(1, steps + 1))
    timesteps = [state.timestep for state in states]
    assert timesteps == sorted(set(timesteps), reverse=True) and 0 <= timesteps[-1] <= timesteps[0] <= 999
    assert all(torch.isfinite(state.latents).all() and not state.latents.requires_grad for state in states)


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 1000), ("dpm++", 999)])
def test_as_many_steps_as_training_timesteps(dit, sampler, steps):
    *_, last = denoise(dit, [0], steps=steps, guidance_scale=1.0, sampler=sampler)
    assert last.step == steps and torch.isfinite(last.latents).all()


def test_refuses_steps_that_repeat_a_timestep(dit):
    with pytest.raises(ValueError, match="fewer steps: 1000 of them make dpm"):
        denoise(dit, [0], steps=1000, sampler="dpm++")


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_denoised_is_the_schedulers_own_prediction(dit, sampler, monkeypatch):
    scheduler_class, seen = SAMPLERS[sampler][0], []
    step = scheduler_class.step

    def spy(self, *args, **kwargs):
        output = step(self, *args, **kwargs)
        seen.append(output.pred_original_sample)
        return output

    monkeypatch.setattr(scheduler_class, "step", spy)
    states = list(denoise(dit, [1], steps=4, sampler=sampler))
    for state, expected in zip(states, seen, strict=True):
        torch.testing.assert_close(state.denoised, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_an_image_does_not_depend_on_its_batch(dit, sampler):
    together = generate(dit, [0, 3], steps=4, seed=9, sampler=sampler)
    alone = generate(dit, [0], steps=4, seed=9, sampler=sampler)
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-4)
    *_, second = denoise(dit, [3], steps=4, seed=9, sampler=sampler, first_index=1)
    torch.testing.assert_close(together[1:], decode(dit, second.latents), rtol=0, atol=1e-4)


def test_same_seed_same_image_other_seed_another(dit):
    first, again, other = (generate(dit, [2], steps=3, seed=seed, sampler="ddpm") for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (1, 3, 16, 16) and first.min() >= 0 and first.max() <= 1


def test_global_generator_and_scheduler_are_left_alone(dit):
    before, scheduler = torch.get_rng_state(), dict(vars(dit.scheduler))
    generate(dit, [2], steps=2, sampler="ddpm")
    assert torch.equal(before, torch.get_rng_state())
    assert all(vars(dit.scheduler)[key] is value for key, value in scheduler.items())


def test_cancelling_ends_the_generator(dit):
    calls = itertools.count()
    states = list(denoise(dit, [0], steps=9, cancelled=lambda: next(calls) >= 3))
    assert [state.step for state in states] == [1, 2, 3]


def test_gradients_are_as_before_between_steps(dit):
    for _ in denoise(dit, [0], steps=2):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"class_labels": [5]}, "from 0 to 4, got 5.*0 sphere, 1 cube"),
        ({"class_labels": [-1]}, "from 0 to 4, got -1"),
        ({"class_labels": []}, "at least one class label"),
        ({"steps": 0}, "1 to 1000 sampling steps, got 0"),
        ({"steps": 1001}, "got 1001"),
        ({"seed": -1}, "integer seed of at least 0"),
        ({"guidance_scale": 0.5}, "at least 1.0"),
        ({"guidance_scale": float("nan")}, "finite"),
        ({"sampler": "heun"}, "'ddim', 'ddpm', 'dpm\\+\\+'"),
    ],
)
def test_refuses_bad_requests_at_the_call(dit, request_, message):
    with pytest.raises(ValueError, match=message):
        denoise(dit, **({"class_labels": [0]} | request_))


def test_refuses_schedulers_that_cannot_work(dit):
    from diffusers import DDIMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

    own_noise = DDIMScheduler()
    own_noise.noise_sampler = None  # as DPMSolverSDEScheduler has
    shifting = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    cases = {
        "for 'noise'": DDIMScheduler(prediction_type="noise"),
        "got EDMEulerScheduler": EDMEulerScheduler(),
        "whose noise differs from run to run": own_noise,
        "a scheduler that can make 50 steps, got FlowMatchEulerDiscreteScheduler, which says": shifting,
    }
    for message, scheduler in cases.items():
        with pytest.raises(ValueError, match=message):
            denoise(dataclasses.replace(dit, scheduler=scheduler), [0])


def test_labels_of_numpy_and_torch_are_labels(untyped, dit):
    import numpy as np

    expected = generate(dit, [1, 3], steps=2, seed=5, guidance_scale=2.0)
    for labels in (np.array([1, 3]), torch.tensor([1, 3]), (np.int64(1), torch.tensor(3)), range(1, 4, 2)):
        settings = {"steps": np.int64(2), "seed": torch.tensor(5), "guidance_scale": np.float32(2)}
        assert torch.equal(generate(dit, labels, **settings), expected)
    for labels in (1, np.int64(1), [True], [1.0], ["1"], np.array([0.5]), [[1]]):
        with pytest.raises(ValueError, match=r"Expected (a list of class labels|class labels from 0 to 4)"):
            generate(dit, labels, steps=2)
