import copy
import dataclasses
import json

import pytest
import torch

from ptq4dit.model.bundle import load
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.model.layers import balanced_layers, get_layer
from ptq4dit.sampling.denoise import generate


@pytest.fixture(scope="module")
def folder(dit, tmp_path_factory):
    """The shared tiny bundle as a DiTPipeline folder in half precision."""
    from diffusers import DiTPipeline

    path = tmp_path_factory.mktemp("models") / "tiny"
    pipeline = DiTPipeline(dit.transformer, dit.vae, dit.scheduler)
    pipeline.save_pretrained(path)
    index = json.loads((path / "model_index.json").read_text())
    index["id2label"] = {str(i): name for i, name in dit.id2label.items()}
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def test_loads_a_folder(dit, folder):
    loaded = load(folder)
    assert loaded.id2label == dit.id2label == {0: "sphere", 1: "cube", 2: "cone", 3: "torus", 4: "cross"}
    assert (loaded.num_classes, loaded.null_class, loaded.latent_shape) == (5, 5, (4, 8, 8))
    assert loaded.source == str(folder) and not loaded.transformer.training and not loaded.vae.training
    assert torch.equal(generate(loaded, [1], steps=2), generate(dit, [1], steps=2))
    assert fingerprint(loaded.transformer) == fingerprint(dit.transformer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_half_precision_shards_load_into_the_type_asked_for(dit, tmp_path, dtype):
    from diffusers import DiTPipeline, DiTTransformer2DModel

    half = DiTTransformer2DModel(**dict(dit.config)).half()
    half.load_state_dict(dit.transformer.state_dict())
    DiTPipeline(half, dit.vae, dit.scheduler).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1
    loaded = load(str(tmp_path), dtype=dtype)
    assert loaded.dtype == dtype and loaded.vae.dtype == dtype
    for key, value in loaded.transformer.state_dict().items():
        assert torch.equal(value, half.state_dict()[key].to(dtype)), key


def test_missing_names_are_filled_in(make_dit):
    from ptq4dit.model.bundle import bundle

    dit = make_dit()
    named = bundle(dit.transformer, dit.vae, dit.scheduler, {"1": "cube"})
    assert named.id2label == {0: "class 0", 1: "cube", 2: "class 2", 3: "class 3", 4: "class 4"}


def test_refuses_what_is_not_a_dit(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"with model_index\.json"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ValueError, match="Expected a pipeline with a transformer, got a StableDiffusionPipeline"):
        load(tmp_path)
    with pytest.raises(ValueError, match="could not be read"):
        load("nobody/no-such-model-anywhere")
    with pytest.raises(ValueError, match="could not be read"):
        load("no/such/folder")


def test_layers_in_model_order(dit):
    layers = balanced_layers(dit.transformer)
    assert list(layers) == [f"blocks.{i}.{role}" for i in range(2) for role in ("qkv", "proj", "fc1", "fc2")]
    attention, feed_forward = dit.transformer.transformer_blocks[1].attn1, dit.transformer.transformer_blocks[1].ff
    assert layers["blocks.1.qkv"].linears == (attention.to_q, attention.to_k, attention.to_v)
    assert layers["blocks.1.proj"].linears == (attention.to_out[0],)
    assert layers["blocks.1.fc1"].linears == (feed_forward.net[0].proj,)
    assert layers["blocks.1.fc2"].linears == (feed_forward.net[2],)
    for layer in layers.values():
        assert tuple(dit.transformer.get_submodule(path) for path in layer.paths) == layer.linears


def test_refuses_unknown_layers_and_other_models(dit):
    with pytest.raises(ValueError, match=r"Unknown layer 'blocks\.7\.fc1'.*'blocks\.0\.qkv' \.\.\. 'blocks\.1\.fc2'"):
        get_layer(dit.transformer, "blocks.7.fc1")
    with pytest.raises(ValueError, match=r"Expected a transformer with repeated blocks .* got a Linear"):
        balanced_layers(torch.nn.Linear(2, 2))


def test_one_weight_changed_by_a_percent_is_another_model(make_dit):
    from ptq4dit.calibration.run import calibrate
    from ptq4dit.config.calibration import CalibrationConfig

    dit = make_dit()
    stats = calibrate(dit, CalibrationConfig(timesteps=1, samples_per_timestep=1, steps=1))
    former = dataclasses.replace(stats, model=stats.model.split("-")[0])
    stats.require_model(dit.transformer)
    former.require_model(dit.transformer)
    changed = make_dit().transformer
    weight = changed.transformer_blocks[1].ff.net[0].proj.weight
    with torch.no_grad():
        weight.view(-1)[int(weight.abs().argmin()) // 4 * 4 + 1] *= 1.01
    with pytest.raises(ValueError, match="Expected the model that was calibrated"):
        stats.require_model(changed)
    with pytest.raises(ValueError, match="Expected the model that was calibrated"):
        former.require_model(make_dit(seed=1).transformer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fingerprint_of_half_precision_files_in_another_type(make_dit, dtype):
    half = make_dit(dtype=torch.float16).transformer
    assert fingerprint(copy.deepcopy(half).to(dtype)) == fingerprint(half)


def test_fingerprint_sees_weights_config_and_rescaling(make_dit):
    from ptq4dit.salience_dial import amplify_salience

    dit = make_dit()
    prints = {
        fingerprint(model)
        for model in (
            dit.transformer,
            make_dit(seed=1).transformer,
            make_dit(norm_eps=1e-4).transformer,
            amplify_salience(dit, 1.01).transformer,
        )
    }
    assert len(prints) == 4
    assert fingerprint(make_dit().transformer) in prints
