"""The tiny pipelines are what their users take them for: stock, deterministic, moved by prompts, whole on disk."""

import pytest
import torch

from tests.ptq4dit.tiny_pipelines import CALL, PIPELINES

PROMPTS = ["a red cube", "two cats, one dog"]


def picture(name, pipeline, prompts=PROMPTS):
    generators = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    return pipeline(prompts, num_inference_steps=2, generator=generators, output_type="pt", **CALL[name]).images


@pytest.mark.parametrize("name", PIPELINES)
def test_a_saved_pipeline_draws_the_same(name, tmp_path):
    from diffusers import DiffusionPipeline

    pipeline = PIPELINES[name]()
    first = picture(name, pipeline)
    pipeline.save_pretrained(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert type(again) is type(pipeline)
    assert torch.equal(picture(name, again), first)
    assert torch.equal(picture(name, PIPELINES[name]()), first)
    assert not torch.equal(picture(name, PIPELINES[name](seed=1)), first)
    other = picture(name, pipeline, ["a blue cube", PROMPTS[1]])
    assert (other - first).abs().amax((1, 2, 3))[0] > 1e-3 and torch.isfinite(first).all() and first.std() > 0.05
