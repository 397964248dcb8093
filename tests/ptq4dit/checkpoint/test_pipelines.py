"""Whole pipelines: saved with one call, loaded by stock diffusers, the same pictures."""

import json
import os
import stat

import diffusers
import pytest
import torch

import ptq4dit
from ptq4dit import CalibrationConfig, QuantConfig, calibrate, quantize
from tests.ptq4dit.checkpoint.quantized_tiny import require_same, said
from tests.ptq4dit.tiny_pipelines import CALL, PIPELINES, tiny_sd3

NAMES = ("sd3", "pixart", "flux")


def draw(pipeline, name):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    given = CALL[name] | {"num_inference_steps": 3, "generator": generator, "output_type": "pt"}
    return pipeline("a red cube", **given).images


def require_picture(first, second):
    """The same to a convolution's rounding: what an autoencoder makes depends on where its weights lie in memory."""
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    """A stock pipeline around a transformer that was calibrated on its own calls and quantized."""
    pipeline = PIPELINES[request.param]()
    with ptq4dit.watch(pipeline.transformer) as seen:
        draw(pipeline, request.param)
    pipeline.transformer = ptq4dit.quantize_transformer(
        pipeline.transformer, seen.calibration(), QuantConfig(weight_bits=4)
    )
    return request.param, pipeline


def test_a_stock_pipeline_loads_it(case, tmp_path, capfd):
    name, pipeline = case
    ptq4dit.save_quantized(pipeline, tmp_path / "model")
    capfd.readouterr()
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "model")
    assert said(capfd) == [] and type(loaded) is type(pipeline)
    require_same(pipeline.transformer, loaded.transformer)
    picture = draw(pipeline, name)
    require_picture(draw(loaded, name), picture)
    loaded.save_pretrained(tmp_path / "again")
    again = type(pipeline).from_pretrained(tmp_path / "again")
    require_picture(draw(again.to("cpu"), name), picture)


def test_only_the_transformer_is_loaded_from_it(case, tmp_path):
    _, pipeline = case
    ptq4dit.save_quantized(pipeline, tmp_path / "model")
    kind = type(pipeline.transformer)
    require_same(pipeline.transformer, kind.from_pretrained(tmp_path / "model", subfolder="transformer"))


def test_nothing_in_it_tells_of_this_machine(case, tmp_path):
    _, pipeline = case
    pipeline.save_pretrained(tmp_path / "first")
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "first")
    ptq4dit.save_quantized(loaded, tmp_path / "model")
    for path in (tmp_path / "model").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), path


def test_a_pipeline_is_quantized_while_it_is_loaded(case, tmp_path):
    name, quantized = case
    pipeline = PIPELINES[name]()
    with ptq4dit.watch(pipeline.transformer) as seen:
        draw(pipeline, name)
    seen.calibration().save(tmp_path / "stats.safetensors")
    pipeline.save_pretrained(tmp_path / "float")
    config = ptq4dit.DiffusersConfig(QuantConfig(weight_bits=4), calibration=tmp_path / "stats.safetensors")
    mapping = diffusers.PipelineQuantizationConfig(quant_mapping={"transformer": config})
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "float", quantization_config=mapping)
    require_same(quantized.transformer, loaded.transformer)


def test_a_bundle_of_a_text_conditioned_model(tmp_path):
    pipeline = PIPELINES["sd3"]()
    bundle = ptq4dit.load(pipeline, options=CALL["sd3"])
    with ptq4dit.watch(pipeline.transformer) as seen:
        draw(pipeline, "sd3")
    model = quantize(bundle, seen.calibration(), QuantConfig(weight_bits=4))
    ptq4dit.save_quantized(model, tmp_path / "model")
    loaded = ptq4dit.load(tmp_path / "model")
    assert loaded.text_conditioned and loaded.options == model.options and loaded.kind == model.kind
    require_same(model.transformer, loaded.transformer)
    given = {"prompts": ["a red cube"], "steps": 2, "seed": 3}
    assert torch.equal(ptq4dit.generate(loaded, **given), ptq4dit.generate(model, **given))


def test_a_pipeline_that_was_saved_without_a_part(tmp_path):
    """As Stable Diffusion 3 without its third text encoder."""
    pipeline = tiny_sd3(third_encoder=False)
    with ptq4dit.watch(pipeline.transformer) as seen:
        draw(pipeline, "sd3")
    model = quantize(ptq4dit.load(pipeline), seen.calibration(), QuantConfig(weight_bits=4))
    ptq4dit.save_quantized(model, tmp_path / "model")
    loaded = ptq4dit.load_quantized(tmp_path / "model")
    assert loaded.pipeline.text_encoder_3 is None
    require_same(model.transformer, loaded.transformer)


def test_a_bare_transformer_is_told_how_it_is_kept(case, tmp_path):
    _, pipeline = case
    name = type(pipeline.transformer).__name__
    with pytest.raises(ValueError, match=rf"got a bare {name}\. Write it with its own save_pretrained"):
        ptq4dit.save_quantized(pipeline.transformer, tmp_path / "model")
    ptq4dit.save_quantized(pipeline, tmp_path / "model")
    with pytest.raises(ValueError, match=r"Expected no into=... for the pipeline in"):
        ptq4dit.load_quantized(tmp_path / "model", into=torch.nn.Linear(2, 2))


@pytest.fixture(scope="module")
def model(dit):
    stats = calibrate(dit, CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=4))
    return quantize(dit, stats, QuantConfig(weight_bits=4))


def test_a_dit_of_five_classes_draws_at_the_pipelines_defaults(model, tmp_path, capfd):
    ptq4dit.save_quantized(model, tmp_path / "model")
    capfd.readouterr()
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "model")
    assert said(capfd) == []
    assert isinstance(pipeline, diffusers.DiTPipeline) and pipeline.labels["torus"] == 3
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    picture = pipeline(class_labels=[3], generator=torch.Generator().manual_seed(3), output_type="pt").images
    expected = drawn_from(model, noise)
    torch.testing.assert_close(picture, expected, rtol=1e-4, atol=1e-4)
    stock = diffusers.DiTPipeline.from_pretrained(tmp_path / "model")
    stock.set_progress_bar_config(disable=True)
    again = stock(class_labels=[3], generator=torch.Generator().manual_seed(3), output_type="pt").images
    assert torch.equal(again, picture)
    pipeline.save_pretrained(tmp_path / "again")
    assert diffusers.DiffusionPipeline.from_pretrained(tmp_path / "again").labels == pipeline.labels


def drawn_from(model, noise):
    """What `generate` makes of this noise, in 50 steps with guidance 4, the pipeline's defaults."""
    scheduler, latents = type(model.scheduler).from_config(model.scheduler.config), noise
    scheduler.set_timesteps(50)
    labels = torch.tensor([3, model.null_class])
    for timestep in scheduler.timesteps:
        with torch.no_grad():
            noise_of = model.transformer(latents.repeat(2, 1, 1, 1), timestep.repeat(2), labels, return_dict=False)[0]
        conditional, unconditional = noise_of.chunk(2)
        guided = unconditional + 4.0 * (conditional - unconditional)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    with torch.no_grad():
        return (model.vae.decode(latents / model.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def test_more_classes_than_imagenets(make_dit, tmp_path):
    """Class 1000 is a class here: the pipeline must not take it for none."""
    dit = make_dit(num_embeds_ada_norm=1004)
    stats = calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2))
    ptq4dit.save_quantized(quantize(dit, stats, QuantConfig()), tmp_path / "model")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    table = pipeline.transformer.transformer_blocks[0].norm1.emb.class_embedder.embedding_table
    used = []
    table.register_forward_pre_hook(lambda _, args: used.append(args[0].tolist()))
    pipeline(class_labels=[1000, 1001], num_inference_steps=1, output_type="pt")
    assert used and all(labels == [1000, 1001, 1004, 1004] for labels in used)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_back_bit_for_bit(make_dit, tmp_path, dtype):
    source = tmp_path / "float"
    whole = make_dit()
    diffusers.DiTPipeline(whole.transformer, whole.vae, whole.scheduler).save_pretrained(source)
    for half in (make_dit(dtype=dtype), ptq4dit.load(source, dtype=dtype)):
        stats = calibrate(half, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2))
        model = quantize(half, stats, QuantConfig(weight_bits=4))
        ptq4dit.save_quantized(model, tmp_path / "model")
        loaded = ptq4dit.load_quantized(tmp_path / "model")
        require_same(model.transformer, loaded.transformer)
        require_same(model.vae, loaded.vae)
        assert torch.equal(ptq4dit.generate(model, [1], steps=2), ptq4dit.generate(loaded, [1], steps=2))


def test_frequencies_come_back(make_dit, tmp_path):
    from ptq4dit.model.frequencies import frequencies_of, set_frequencies

    dit = make_dit()
    set_frequencies(dit.transformer, "official")
    stats = calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2))
    model = quantize(dit, stats, QuantConfig(weight_bits=4))
    ptq4dit.save_quantized(model, tmp_path / "model")
    stock = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "model")
    assert frequencies_of(stock.transformer) == "official"
    picture = ptq4dit.generate(model, [1], steps=2)
    assert torch.equal(ptq4dit.generate(ptq4dit.load(tmp_path / "model"), [1], steps=2), picture)


@pytest.mark.parametrize("name", ["DPMSolverMultistep", "UniPCMultistep", "EulerDiscrete", "FlowMatchEulerDiscrete"])
def test_schedulers_of_every_kind_come_back(model, tmp_path, name):
    """Some have infinity in their configs."""
    import dataclasses

    kind = getattr(diffusers, f"{name}Scheduler")
    ptq4dit.save_quantized(dataclasses.replace(model, scheduler=kind()), tmp_path / "model")
    loaded = ptq4dit.load_quantized(tmp_path / "model").scheduler
    public = {name: value for name, value in kind().config.items() if not name.startswith("_")}
    assert type(loaded) is kind and public.items() <= dict(loaded.config).items()


def test_load_opens_a_checkpoint(model, tmp_path):
    ptq4dit.save_quantized(model, tmp_path / "model")
    loaded = ptq4dit.load(tmp_path / "model")
    assert loaded.transformer.ptq4dit_record == model.transformer.ptq4dit_record
    assert loaded.id2label == model.id2label
    with pytest.raises(ValueError, match="dtype=None"):
        ptq4dit.load(tmp_path / "model", dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="no options"):
        ptq4dit.load(tmp_path / "model", frequencies="official")


def test_files_are_readable_as_the_umask_says(model, tmp_path):
    before = os.umask(0o027)
    try:
        ptq4dit.save_quantized(model, tmp_path / "model")
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert len(files) > 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}


def test_source_is_no_path_of_this_machine(dit, model, tmp_path, monkeypatch):
    import dataclasses

    for source, expected in ((str(tmp_path / "here" / "demo"), "demo"), ("me/dit", "me/dit"), ("assets/demo",) * 2):
        ptq4dit.save_quantized(dataclasses.replace(model, source=source), tmp_path / "model")
        manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
        assert manifest["source"] == expected
