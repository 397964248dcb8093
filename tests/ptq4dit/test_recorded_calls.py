"""Calls of text-conditioned transformers: halves of guidance told apart, prompts of any length, files and back."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ptq4dit.calibration import run
from ptq4dit.calibration.trajectories import Trajectories, collect
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.reconstruction.arguments import tensors_of
from tests.ptq4dit.model.tiny_models import TINY, tiny
from tests.ptq4dit.tiny_trajectories import recorded

CONFIG = CalibrationConfig(timesteps=2, samples_per_timestep=3, steps=3, guidance_scale=3.0, seed=1)
PROMPTS = ["a red cube", "a blue ball"]
TIMES = (1.0, 0.6, 0.2)


class Transformer(nn.Module):
    """What a pipeline calls; it remembers nothing."""

    def forward(self, hidden_states, timestep, encoder_hidden_states=None, encoder_attention_mask=None, guidance=None):
        return (hidden_states,)


class Text(Dit):
    """A bundle that is given prompts."""

    text_conditioned = True


def prompt(text, length=4):
    """What a text encoder makes of a prompt: the same for the same text."""
    generator = torch.Generator().manual_seed(sum(map(ord, text)))
    return torch.randn(1, length, 6, generator=generator)


def pipeline(kind, lengths=(4, 4)):
    """A stand-in for `denoise` that calls the transformer as diffusers' pipelines do, with this kind of guidance."""

    def denoise(model, *, steps, guidance_scale, seed, prompts, cancelled, first_index, whole):
        conditional = torch.cat([prompt(text, lengths[0]) for text in prompts])
        nothing = prompt("", lengths[1]).expand(len(prompts), -1, -1)
        for step, time in enumerate(TIMES, start=1):
            if cancelled is not None and cancelled():
                return
            latents = torch.stack([torch.full((2, 4, 4), 10.0 * (first_index + i) + step) for i in range(len(prompts))])
            if kind == "batched":
                both = torch.cat([nothing, conditional])
                model.transformer(torch.cat([latents] * 2), torch.tensor(time).expand(len(both)), both)
            elif kind == "class first":
                both = torch.cat([conditional, nothing])
                model.transformer(torch.cat([latents] * 2), timestep=torch.tensor(time), encoder_hidden_states=both)
            elif kind == "sequential":
                for given in (conditional, nothing):
                    model.transformer(latents, timestep=torch.tensor([time]), encoder_hidden_states=given)
            else:
                scale = torch.full((len(latents),), guidance_scale)
                model.transformer(latents, torch.tensor([time]), encoder_hidden_states=conditional, guidance=scale)
            yield SimpleNamespace(step=step)

    return denoise


def of_image(image):
    """The prompt that calibration draws for an image."""
    model = Text(transformer=Transformer(), vae=None, scheduler=None, id2label={}, source="")
    return run.conditions(model, CONFIG, range(image, image + 1), PROMPTS)["prompts"][0]


def collected(monkeypatch, kind, prompts=PROMPTS, lengths=(4, 4), **changes):
    monkeypatch.setattr(run, "denoise", pipeline(kind, lengths))
    monkeypatch.setitem(sys.modules, "ptq4dit.sampling.prompts", SimpleNamespace(default_prompts=lambda: prompts))
    model = Text(transformer=Transformer(), vae=None, scheduler=None, id2label={}, source="")
    return collect(model, CONFIG, prompts=prompts, **changes)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("kind", ["batched", "class first", "sequential"])
def test_every_sample_knows_its_image_and_its_half(monkeypatch, kind, batch_size):
    data = collected(monkeypatch, kind, batch_size=batch_size)
    assert len(data) == 2 * 2 * 3 and data.halves.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert data.images.tolist() == [0, 1, 2] * 4 and data.timesteps.tolist() == pytest.approx([1.0] * 6 + [0.2] * 6)
    for i in range(len(data)):
        image, half = int(data.images[i]), int(data.halves[i])
        expected = prompt("" if half else of_image(image))[0]
        assert torch.equal(data.conditions["encoder_hidden_states"][i], expected)
        assert float(data.latents[i, 0, 0, 0]) == 10 * image + (1 if data.timesteps[i] == 1 else 3)
    pairs = data.pairs()
    assert len(pairs) == 6 and (data.halves[pairs[:, 0]] == 0).all() and (data.halves[pairs[:, 1]] == 1).all()
    assert (data.images[pairs[:, 0]] == data.images[pairs[:, 1]]).all()


@pytest.mark.parametrize("kind", ["batched", "sequential"])
def test_one_prompt_for_all_images_goes_by_the_order_that_pipelines_have(monkeypatch, kind):
    data = collected(monkeypatch, kind, prompts=["a red cube"])
    for half, text in ((0, "a red cube"), (1, "")):
        found = data.conditions["encoder_hidden_states"][data.halves == half]
        assert torch.equal(found, prompt(text).expand(6, -1, -1))


def test_a_model_that_is_given_the_guidance_has_one_half(monkeypatch):
    data = collected(monkeypatch, "embedded")
    assert len(data) == 6 and not data.halves.any()
    assert data.conditions["guidance"].tolist() == [3.0] * 6


def test_prompts_of_two_lengths_are_padded_and_masked(monkeypatch):
    data = collected(monkeypatch, "sequential", lengths=(5, 3))
    assert data.conditions["encoder_hidden_states"].shape == (12, 5, 6)
    mask = data.conditions["encoder_attention_mask"]
    assert mask.sum(1).tolist() == [5 if half == 0 else 3 for half in data.halves.tolist()]
    assert data.extremes().tolist() == [0, 3]


def test_a_call_that_does_not_fit_the_images_is_refused(monkeypatch):
    def odd(model, **settings):
        model.transformer(torch.zeros(5, 2, 4, 4), torch.tensor(1.0))
        yield SimpleNamespace(step=1)

    monkeypatch.setitem(globals(), "pipeline", lambda *_: odd)
    with pytest.raises(ValueError, match="cannot be told apart by image"):
        collected(monkeypatch, "batched")


@pytest.mark.parametrize("name", TINY)
def test_calls_of_every_family_survive_a_file(name, tmp_path):
    transformer, _ = tiny(name, dtype=torch.float32)
    data = recorded(name, transformer, calls=2)
    data.save(tmp_path / "data.safetensors")
    loaded = Trajectories.load(tmp_path / "data.safetensors")
    rows = torch.tensor([2, 0])
    with torch.no_grad():
        expected = tensors_of(data.call(rows).on(transformer))
        for one, other in zip(tensors_of(loaded.call(rows).on(transformer)), expected, strict=True):
            assert torch.equal(one, other)
    assert loaded.names == data.names and loaded.config == data.config
