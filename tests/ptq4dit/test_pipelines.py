"""Bundles of any pipeline: from folders, variants and live pipelines, in any floating type."""

import json

import pytest
import torch

from ptq4dit.model.bundle import Bundle, Dit, load
from ptq4dit.model.pipelines import source_name
from ptq4dit.sampling.denoise import denoise, generate
from tests.ptq4dit.tiny_pipelines import CALL, tiny_flux, tiny_pixart, tiny_sd3

PROMPTS = ["a red cube"]


@pytest.fixture(scope="module")
def live():
    return tiny_sd3(third_encoder=False)


@pytest.fixture(scope="module")
def folder(live, tmp_path_factory):
    path = tmp_path_factory.mktemp("sd3") / "model"
    live.save_pretrained(path)
    return path


def test_a_live_pipeline_is_left_as_it_is(live):
    before = dict(vars(live))
    model = load(live)
    assert Dit is Bundle and isinstance(model, Bundle) and model.text_conditioned
    assert model.transformer is live.transformer and model.vae is live.vae and model.scheduler is live.scheduler
    assert (model.kind, model.source, model.id2label) == ("StableDiffusion3Pipeline",) * 2 + ({},)
    assert model.latent_shape == (4, 8, 8)
    generate(model, prompts=PROMPTS, steps=1)
    assert vars(live) == before and live.transformer is model.transformer
    with pytest.raises(ValueError, match=r"dtype=None for a live pipeline, got 'float16'"):
        load(live, dtype="float16")
    with pytest.raises(ValueError, match="a path, a hub id or a diffusers pipeline, got int"):
        source_name(3)


def test_the_pipeline_around_another_transformer(live):
    model, other = load(live), tiny_sd3(seed=1, third_encoder=False).transformer
    changed = model.with_transformer(other)
    assert type(changed.pipeline) is type(live) and changed.pipeline.transformer is other
    assert changed.pipeline.text_encoder is live.text_encoder and model.pipeline.transformer is live.transformer
    assert model.stock.transformer is None, "the float transformer is not kept in memory"
    assert not torch.equal(generate(changed, prompts=PROMPTS, steps=1), generate(model, prompts=PROMPTS, steps=1))
    for name in ("num_classes", "null_class"):
        with pytest.raises(ValueError, match="a class-conditional model, got a StableDiffusion3Pipeline"):
            getattr(model, name)
    assert model.to("cpu") is model


def test_a_dit_has_its_pipeline_too(make_dit, tmp_path):
    dit = make_dit(num_embeds_ada_norm=1000, out_channels=4)
    pipeline = dit.pipeline
    assert type(pipeline).__name__ == "DiTPipeline" and pipeline.transformer is dit.transformer
    pipeline.save_pretrained(tmp_path)
    for loaded in (load(tmp_path), load(pipeline)):
        assert not loaded.text_conditioned and loaded.num_classes == 1000 and loaded.kind == "DiTPipeline"
        generator = torch.Generator().manual_seed(0)
        assert loaded.pipeline([3], generator=generator, num_inference_steps=1, output_type="pt").images.shape[0] == 1
    assert load(pipeline).id2label[0] == "sphere"


def test_a_folder_in_the_type_asked_for(live, folder):
    model = load(folder)
    assert torch.equal(generate(model, prompts=PROMPTS, steps=2), generate(load(live), prompts=PROMPTS, steps=2))
    half = load(str(folder), dtype="bfloat16", device="cpu")
    parts = [part for part in half.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    assert len(parts) == 4 and {part.dtype for part in parts} == {torch.bfloat16}
    assert not any(part.training for part in parts)
    assert generate(half, prompts=PROMPTS, steps=2).isfinite().all()
    for wrong in ("bfloat17", "int8", torch.int32):
        with pytest.raises(ValueError, match="a floating type"):
            load(folder, dtype=wrong)


def test_a_folder_of_one_variant(live, tmp_path):
    live.save_pretrained(tmp_path, variant="fp16")
    assert not list((tmp_path / "transformer").glob("diffusion_pytorch_model.safetensors"))
    expected = generate(load(live), prompts=PROMPTS, steps=1)
    for loaded in (load(tmp_path), load(tmp_path, variant="fp16")):
        assert torch.equal(generate(loaded, prompts=PROMPTS, steps=1), expected)
    with pytest.raises(ValueError, match=r"could not be read|variant"):
        load(tmp_path, variant="ema")


def test_without_a_third_encoder_the_model_sees_the_tokens_of_its_training(live, folder, tmp_path):
    def tokens(model):
        seen = []
        hook = model.transformer.register_forward_pre_hook(
            lambda _, __, given: seen.append(given["encoder_hidden_states"].shape[1]), with_kwargs=True
        )
        list(denoise(model, prompts=PROMPTS, steps=1))
        hook.remove()
        return seen

    clip = live.tokenizer.model_max_length
    assert tokens(load(folder)) == [2 * clip], "its tokenizer's length stands for the third encoder"
    assert tokens(load(folder, options={"max_sequence_length": 0})) == [clip]
    live.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"max_sequence_length": 5}))
    assert load(tmp_path).options == {"max_sequence_length": 5} and tokens(load(tmp_path)) == [clip + 5]
    assert "max_sequence_length" not in load(tiny_sd3()).options


def test_sizes(live):
    model = load(tiny_pixart())
    assert model.options == {"use_resolution_binning": False, "height": 16, "width": 16}
    assert generate(model, prompts=PROMPTS, steps=2).shape == (1, 3, 16, 16)
    flux = load(tiny_flux(), options=CALL["flux"])
    with pytest.raises(ValueError, match="FluxTransformer2DModel, which draws any size"):
        flux.latent_shape  # noqa: B018
    assert generate(flux, prompts=PROMPTS, steps=1, options={"height": 24}).shape == (1, 3, 24, 16)


def test_refuses_what_has_no_transformer(tmp_path):
    from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(4, 4),
        norm_num_groups=2,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    pipeline = DDPMPipeline(unet, DDIMScheduler())
    with pytest.raises(ValueError, match="Expected a pipeline with a transformer, got a DDPMPipeline"):
        load(pipeline)
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Expected a pipeline with a transformer, got a DDPMPipeline"):
        load(tmp_path)
