"""Text-conditioned models: the pictures are the stock pipeline's, step by step, and what can go wrong says so."""

import dataclasses
import itertools
import threading
import time

import pytest
import torch

from ptq4dit.model.bundle import load
from ptq4dit.sampling.denoise import decode, denoise, generate
from ptq4dit.sampling.prompts import (
    EncodedPrompts,
    default_prompts,
    encode_prompts,
    encoded_names,
    free_text_encoders,
    read_prompts,
)
from ptq4dit.sampling.seeds import image_generator
from tests.ptq4dit.tiny_pipelines import CALL, PIPELINES, tiny_sd3

PROMPTS = ["a red cube", "two cats, one dog"]
GUIDED = ("sd3", "pixart", "sana", "lumina2", "qwen")


@pytest.fixture(scope="module")
def models():
    return {name: load(make(), options=CALL[name]) for name, make in PIPELINES.items()}


def stock(name, model, steps=2, seed=5, first=0, **more):
    generators = [image_generator(seed, first + i) for i in range(len(PROMPTS))]
    settings = {"num_inference_steps": steps, "generator": generators, "output_type": "pt", **CALL[name], **more}
    return model.pipeline(PROMPTS, **settings).images


@pytest.mark.parametrize("name", PIPELINES)
def test_pictures_are_the_pipelines(name, models):
    model, before = models[name], torch.get_rng_state()
    states = list(denoise(model, prompts=PROMPTS, steps=3, seed=5))
    assert torch.equal(before, torch.get_rng_state())
    assert [state.step for state in states] == [1, 2, 3]
    timesteps = [state.timestep for state in states]
    assert timesteps == sorted(set(timesteps), reverse=True)
    picture = decode(model, states[-1].latents)
    assert torch.equal(picture, stock(name, model, steps=3)) and picture.std() > 0.05
    assert picture.min() >= 0 and picture.max() <= 1
    *_, other = denoise(model, prompts=PROMPTS, steps=3, seed=5, first_index=1)
    assert not torch.equal(other.latents, states[-1].latents)


@pytest.mark.parametrize("name", GUIDED)
def test_guidance_has_the_pipelines_name(name, models):
    scale = {"true_cfg_scale": 2.0, "negative_prompt": " "} if name == "qwen" else {"guidance_scale": 2.0}
    actual = generate(models[name], prompts=PROMPTS, steps=2, seed=5, guidance_scale=2.0)
    assert torch.equal(actual, stock(name, models[name], **scale))
    assert not torch.equal(actual, stock(name, models[name]))


@pytest.mark.parametrize("name", PIPELINES)
def test_encoded_prompts_draw_the_same_and_encoders_can_go(name):
    model = load(PIPELINES[name](), options=CALL[name])
    expected = generate(model, prompts=PROMPTS, steps=2, seed=5)
    encoded = encode_prompts(model, [*PROMPTS, "another one"])
    other = model.with_transformer(model.transformer)
    free_text_encoders(model)
    assert not [key for key, part in model.pipeline.components.items() if key.startswith("text_encoder") and part]
    torch.testing.assert_close(generate(other, prompts=encoded[:2], steps=2, seed=5), expected, rtol=0, atol=1e-4)
    *_, second = denoise(other, prompts=encoded[[1]], steps=2, seed=5, first_index=1)
    torch.testing.assert_close(decode(other, second.latents), expected[1:], rtol=0, atol=1e-4)
    assert len(encoded) == 3 and len(encoded[1:]) == 2
    with pytest.raises(ValueError, match="encoders were freed"):
        denoise(other, prompts=PROMPTS)
    with pytest.raises(ValueError, match="encoders were freed"):
        encode_prompts(other, PROMPTS)


def test_negative_prompts_are_encoded_too(models):
    negative = {"negative_prompt": "a dog"}
    for name, asked in (("sd3", {"guidance_scale": 3.0}), ("qwen", {"true_cfg_scale": 3.0})):
        expected = stock(name, models[name], **negative, **asked)
        encoded = encode_prompts(models[name], PROMPTS, negative)
        actual = generate(models[name], prompts=encoded, steps=2, seed=5, guidance_scale=3.0)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
        assert torch.equal(
            generate(models[name], prompts=PROMPTS, steps=2, seed=5, guidance_scale=3.0, options=negative), expected
        )


def test_a_pipeline_without_encoders_is_refused_in_a_sentence():
    pipeline = PIPELINES["sd3"]()
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        setattr(pipeline, name, None)
    with pytest.raises(ValueError, match=r"Expected a pipeline with a text encoder .* got a StableDiffusion3Pipeline"):
        generate(load(pipeline), prompts=["a red cube"], steps=1)


def test_the_names_of_what_encoders_give():
    from diffusers import DiTPipeline, FluxPipeline, HunyuanDiTPipeline, WanPipeline

    assert encoded_names(FluxPipeline) == ("prompt_embeds", "pooled_prompt_embeds", "text_ids")
    assert encoded_names(WanPipeline) == ("prompt_embeds", "negative_prompt_embeds")
    assert encoded_names(HunyuanDiTPipeline)[1:3] == ("negative_prompt_embeds", "prompt_attention_mask")
    with pytest.raises(ValueError, match="Pass prompts as text"):
        encoded_names(DiTPipeline)


def test_many_prompts_are_encoded_a_few_at_a_time(models, monkeypatch):
    sizes, encoder = [], type(models["qwen"].pipeline).encode_prompt
    monkeypatch.setattr(
        type(models["qwen"].pipeline),
        "encode_prompt",
        lambda self, prompt, **more: (sizes.append(len(prompt)), encoder(self, prompt, **more))[1],
    )
    monkeypatch.setattr("ptq4dit.sampling.prompts.encoded_names", lambda _: ("prompt_embeds", "prompt_embeds_mask"))
    texts = ["a" * (1 + i) for i in range(11)]
    encoded = encode_prompts(models["qwen"], texts)
    assert sizes == [8, 3] and len(encoded) == 11
    assert (
        encoded.arguments["prompt_embeds"].shape[1]
        - encode_prompts(models["qwen"], texts[:1]).arguments["prompt_embeds"].shape[1]
        == 10
    )


def test_denoised_is_what_the_steps_lead_to(models):
    for name in ("sd3", "pixart"):
        states = list(denoise(models[name], prompts=PROMPTS, steps=4, guidance_scale=1.0))
        assert all(state.denoised.shape == state.latents.shape for state in states)
        torch.testing.assert_close(states[-1].denoised, states[-1].latents, rtol=1e-3, atol=1e-3)


def test_cancelling_ends_before_the_next_step(models):
    calls = itertools.count()
    states = list(denoise(models["sd3"], prompts=PROMPTS, steps=6, cancelled=lambda: next(calls) >= 2))
    assert [state.step for state in states] == [1, 2] and next(calls) == 3
    calls = itertools.count()
    assert len(list(denoise(models["sd3"], prompts=PROMPTS, steps=3, cancelled=lambda: next(calls) < 0))) == 3
    assert next(calls) == 3, "asked before every step, and not after the last one"


def ours():
    """All threads but the one that looks after progress bars, for as long as the process lives."""
    return {thread for thread in threading.enumerate() if thread.name != "tqdm_monitor"}


def test_closing_stops_the_pipeline_at_its_next_step():
    model, seen, before = load(tiny_sd3(), options=CALL["sd3"]), [], ours()
    go = threading.Event()

    def step(*_):
        seen.append(1)
        assert len(seen) < 3 or go.wait(20)

    model.transformer.register_forward_pre_hook(step)
    states = denoise(model, prompts=PROMPTS, steps=9)
    next(states)
    next(states)
    assert len(seen) == 2, "it never runs ahead"
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    begun = time.monotonic()
    states.close()
    assert time.monotonic() - begun < 0.5, "it waits for no step"
    go.set()
    for thread in ours() - before:
        thread.join(timeout=20)
    assert len(seen) == 2 and ours() <= before


def test_an_error_in_the_pipeline_reaches_the_caller():
    model = load(tiny_sd3(), options=CALL["sd3"])

    def fail(*_):
        raise ArithmeticError("at the second call")

    states = denoise(model, prompts=PROMPTS, steps=3)
    next(states)
    model.transformer.register_forward_pre_hook(fail)
    with pytest.raises(ArithmeticError, match="second call"):
        next(states)
    too_long = denoise(model, prompts=PROMPTS, steps=3, options={"max_sequence_length": 10_000})
    with pytest.raises(ValueError, match="max_sequence_length"):
        next(too_long)


def test_autocast_is_the_callers(models):
    kinds = []
    hook = (
        models["sd3"]
        .transformer.transformer_blocks[0]
        .attn.to_q.register_forward_hook(lambda _module, _args, output: kinds.append(output.dtype))
    )
    try:
        with torch.autocast("cpu", torch.bfloat16):
            list(denoise(models["sd3"], prompts=PROMPTS, steps=1))
        list(denoise(models["sd3"], prompts=PROMPTS, steps=1))
    finally:
        hook.remove()
    assert kinds == [torch.bfloat16, torch.float32]


def test_a_second_order_scheduler_makes_whole_steps(models):
    from diffusers import FlowMatchHeunDiscreteScheduler

    model = dataclasses.replace(models["sd3"], scheduler=FlowMatchHeunDiscreteScheduler(shift=3.0))
    states = list(denoise(model, prompts=PROMPTS, steps=3, seed=5))
    assert [state.step for state in states] == [1, 2, 3]
    assert torch.equal(decode(model, states[-1].latents), stock("sd3", model, steps=3))


def test_noise_correction_acts_on_each_half(models):
    """Of an affine correction it makes no difference whether it comes before or after guidance."""
    from ptq4dit.sampling.noise_correction import NoiseCorrection

    correction = NoiseCorrection(
        timesteps=torch.tensor([0, 1000]),
        correlation=torch.tensor([0.1, 0.1]),
        bias=torch.full((2, 4), 0.05),
        variance=torch.zeros(2),
    )
    model = models["sd3"]
    corrected = dataclasses.replace(model, noise_correction=correction)
    forward, seen = model.transformer.forward, []
    actual = list(denoise(corrected, prompts=PROMPTS, steps=2, guidance_scale=3.0))[-1].latents
    try:
        model.transformer.forward = lambda **given: ((forward(**given)[0] - 0.05) / 1.1, seen.append(1))
        expected = list(denoise(model, prompts=PROMPTS, steps=2, guidance_scale=3.0))[-1].latents
    finally:
        del model.transformer.forward
    assert len(seen) == 2
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"prompts": []}, "at least one prompt, got none"),
        ({"prompts": "a red cube"}, r"a list of prompts, got one string. Write prompts=\['a red cube'\]"),
        ({"prompts": ["a", 3]}, "prompts to be strings, got 3 of type int"),
        ({"prompts": 5}, "a list of prompts, got int"),
        ({"prompts": EncodedPrompts(arguments={})}, "'prompt_embeds' in encoded prompts"),
        ({"class_labels": [1]}, "Expected prompts for a StableDiffusion3Pipeline, got class labels"),
        ({"class_labels": [1], "prompts": ["a"]}, "class_labels or prompts, got both"),
        ({}, "got neither"),
        ({"prompts": ["a"], "sampler": "ddim"}, "sampler=None for a StableDiffusion3Pipeline"),
        ({"prompts": ["a"], "steps": 0}, "1 to 1000 sampling steps"),
        ({"prompts": ["a"], "guidance_scale": -1.0}, "guidance_scale of at least 0"),
        ({"prompts": ["a"], "options": {"hight": 8}}, r"options that StableDiffusion3Pipeline takes, got \['hight'\]"),
    ],
)
def test_refuses_bad_requests_at_the_call(models, request_, message):
    with pytest.raises(ValueError, match=message):
        denoise(models["sd3"], **request_)


def test_a_class_conditional_model_takes_no_prompts(dit):
    with pytest.raises(ValueError, match="class_labels for a DiTPipeline, which knows classes and no text"):
        denoise(dit, prompts=["a"])
    with pytest.raises(ValueError, match="no pipeline options"):
        denoise(dit, [1], options={"height": 8})
    with pytest.raises(ValueError, match="takes class labels"):
        encode_prompts(dit, ["a"])


def test_default_prompts_and_files(tmp_path):
    prompts = default_prompts()
    assert len(prompts) == len(set(prompts)) == 64 and max(len(prompt) for prompt in prompts) < 60
    (tmp_path / "list.txt").write_text("a fox\n\n  naïve café \n", encoding="utf-8")
    assert read_prompts(tmp_path / "list.txt") == ["a fox", "naïve café"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="at least one prompt"):
        read_prompts(tmp_path / "empty.txt")
    with pytest.raises(ValueError, match="a prompt a line"):
        read_prompts(tmp_path / "none.txt")
