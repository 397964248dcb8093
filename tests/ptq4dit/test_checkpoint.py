import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ptq4dit.calibration.run import calibrate
from ptq4dit.checkpoint.packed import load_quantized, save_quantized
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.paper.ssc import spearman_rho
from ptq4dit.quantized.convert import describe
from ptq4dit.sampling.denoise import generate

CALIBRATION = CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=4)


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CALIBRATION)


@pytest.fixture(scope="module")
def model(dit, stats):
    return quantize(dit, stats, QuantConfig(weight_bits=4))


def weight_bytes(folder):
    return (folder / "transformer" / "diffusion_pytorch_model.safetensors").stat().st_size


@pytest.mark.parametrize("bits", [(8, 8), (4, 8), (3, 16), (5, 4), (16, 8)])
def test_same_bits_after_loading(dit, stats, tmp_path, bits):
    model = quantize(dit, stats, QuantConfig(weight_bits=bits[0], activation_bits=bits[1]))
    save_quantized(model, tmp_path / "model")
    loaded = load_quantized(tmp_path / "model")
    state = loaded.transformer.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.transformer.state_dict().items())
    assert torch.equal(generate(loaded, [1, 4], steps=3), generate(model, [1, 4], steps=3))
    assert describe(loaded) == describe(model) and loaded.id2label == model.id2label


EVERYTHING = {
    "everything": QuantConfig(
        weight_bits=4,
        modulation=True,
        conditioning=True,
        patch_embed=True,
        final_layer=True,
        attention_bits=8,
        softmax_bits=8,
        activation_granularity="per_timestep_group",
        timestep_groups=2,
        overrides={"*.fc2": {"weight_bits": 8, "group_size": 16}},
    ),
    "rotated, dynamic": QuantConfig(weight_bits=3, rotation=True, rank=2, activation_granularity="per_token"),
    "balanced": QuantConfig(weight_bits=4, activation_bits=6, balance_fc2=True),
    "symmetric": QuantConfig(weight_bits=6, weight_symmetric=True, activation_symmetric=True, method="repq"),
    "corrected": QuantConfig(
        method="ptqd", weight_bits=4, reconstruction=ReconstructionConfig(steps=0, images=4, timesteps=2, held_out=0.25)
    ),
}


@pytest.mark.parametrize("name", list(EVERYTHING))
def test_whatever_a_config_says_comes_back_bit_for_bit(dit, stats, tmp_path, name):
    model = quantize(dit, stats, EVERYTHING[name])
    save_quantized(model, tmp_path / "model")
    loaded = load_quantized(tmp_path / "model")
    state = loaded.transformer.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.transformer.state_dict().items())
    assert torch.equal(generate(loaded, [1, 4], steps=3), generate(model, [1, 4], steps=3))
    assert describe(loaded) == describe(model)
    assert (loaded.noise_correction is None) == (name != "corrected")


def test_what_is_kept_beside_a_checkpoint_is_not_of_it(model, stats, tmp_path):
    """Such as its calibration: the manifest does not name it, and nothing of it is read."""
    save_quantized(model, tmp_path / "model")
    stats.save(tmp_path / "model" / "calibration.safetensors")
    assert torch.equal(generate(load_quantized(tmp_path / "model"), [1], steps=2), generate(model, [1], steps=2))


def test_a_model_is_saved_as_the_same_bytes_each_time(model, tmp_path):
    for number in range(4):
        save_quantized(model, tmp_path / str(number), max_shard_size="20kB")
    written = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in tmp_path.iterdir()
    ]
    assert all(one == written[0] for one in written) and sum(path.suffix == ".safetensors" for path in written[0]) > 2


def test_same_bits_in_a_fresh_process_without_the_float_model(model, tmp_path):
    save_quantized(model, tmp_path / "model")
    expected = generate(model, [2], steps=3)
    code = (
        "import sys, numpy, torch, ptq4dit; torch.set_num_threads(int(sys.argv[3]));"
        "image = ptq4dit.generate(ptq4dit.load_quantized(sys.argv[1]), [2], steps=3);"
        "numpy.save(sys.argv[2], image.numpy())"
    )
    output, threads = tmp_path / "image.npy", torch.get_num_threads()
    subprocess.run([sys.executable, "-c", code, tmp_path / "model", output, str(threads)], check=True)
    import numpy

    assert numpy.array_equal(numpy.load(output), expected.numpy())


def test_four_bits_take_half_a_byte_and_copies_are_stored_once(dit, stats, model, make_dit, tmp_path):
    for bits in (4, 8):
        save_quantized(quantize(dit, stats, QuantConfig(weight_bits=bits)), tmp_path / str(bits))
    weights = sum(m.weight_q.numel() for m in model.transformer.modules() if hasattr(m, "weight_q"))
    assert weight_bytes(tmp_path / "8") - weight_bytes(tmp_path / "4") == pytest.approx(weights / 2, rel=0.05)

    tied = make_dit()
    first, second = tied.transformer.transformer_blocks
    second.norm1.emb.load_state_dict(first.norm1.emb.state_dict())
    tied_model = quantize(tied, calibrate(tied, CALIBRATION), QuantConfig(weight_bits=4))
    save_quantized(tied_model, tmp_path / "tied")
    embedder = sum(p.numel() * 4 for p in first.norm1.emb.parameters())
    assert weight_bytes(tmp_path / "4") - weight_bytes(tmp_path / "tied") > 0.95 * embedder
    assert torch.equal(generate(load_quantized(tmp_path / "tied"), [0], steps=2), generate(tied_model, [0], steps=2))


def test_replaces_an_older_checkpoint_and_leaves_nothing_behind(dit, stats, model, tmp_path):
    for bits in (8, 4):
        save_quantized(quantize(dit, stats, QuantConfig(weight_bits=bits)), tmp_path / "model")
    assert json.loads((tmp_path / "model" / "manifest.json").read_text())["label"] == "W4A8"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_manifest_says_what_made_it(dit, stats, tmp_path):
    config = QuantConfig(weight_bits=4, modulation=True, overrides={"*.fc2": {"weight_bits": 8}}, method="rtn")
    save_quantized(quantize(dit, stats, config), tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["method"] == "rtn" and manifest["versions"]["torch"] == torch.__version__
    assert {"ptq4dit", "diffusers"} < set(manifest["versions"])
    assert manifest["calibration"]["samples_per_timestep"] == 4 and manifest["calibration"]["guidance_scale"] == 4.0
    found = manifest["statistics"]
    assert (found["layers"], found["timesteps"], found["rows"]) == (8, 3, 8)
    assert found["first_timestep"] > found["last_timestep"] and found["largest_activation"] > 0
    rho = torch.stack(
        [
            torch.stack([spearman_rho(row, stats.weight_salience[name]) for row in stats.activation_salience[name]])
            for name in stats.layers
            if not name.endswith("fc2")
        ]
    )
    assert found["mean_spearman_rho"] == pytest.approx(float(rho.mean()), abs=1e-4)
    bits = {name: group["spec"]["weight_bits"] for group in manifest["layers"] for name in group["layers"]}
    assert len(bits) == 10 and bits["blocks.0.modulation"] == bits["blocks.1.qkv"] == 4 and bits["blocks.1.fc2"] == 8
    files = {path.relative_to(tmp_path / "model").as_posix() for path in (tmp_path / "model").rglob("*.*")}
    assert set(manifest["sha256"]) == files - {"manifest.json"} and "vae/config.json" in files


def test_a_setting_that_an_older_checkpoint_does_not_know_has_its_default(model, tmp_path):
    save_quantized(model, tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    for settings in (manifest["config"], *(group["spec"] for group in manifest["layers"])):
        settings.pop("balance_inputs", settings.pop("input_factor", None))
    path.write_text(json.dumps(manifest))
    assert describe(load_quantized(tmp_path / "model")) == describe(model)


def test_a_failed_save_leaves_the_older_checkpoint(model, tmp_path, monkeypatch):
    save_quantized(model, tmp_path / "model")
    monkeypatch.setattr("ptq4dit.checkpoint.packed.write_manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_quantized(model, tmp_path / "model")
    assert load_quantized(tmp_path / "model").id2label == model.id2label
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_save_that_fails_at_its_last_step_puts_the_older_checkpoint_back(model, tmp_path, monkeypatch):
    save_quantized(model, tmp_path / "model")
    real, moved = os.replace, []

    def replace(source, target):
        moved.append(target)
        if Path(source).name == "new":
            raise OSError("no")
        real(source, target)

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(OSError, match="no"):
        save_quantized(model, tmp_path / "model")
    assert len(moved) == 3 and load_quantized(tmp_path / "model").id2label == model.id2label
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_takes_an_empty_folder_and_no_other_manifest(model, tmp_path):
    (tmp_path / "empty").mkdir()
    save_quantized(model, tmp_path / "empty")
    assert load_quantized(tmp_path / "empty").id2label == model.id2label
    for text in ('{"name": "a web page"}', '{"format": "ptq4dit-export-1"}', "[]", "{"):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        (other / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match="holds other files"):
            save_quantized(model, other)
        assert (other / "manifest.json").read_text() == text


def test_refuses_a_manifest_of_a_stranger(model, tmp_path):
    folder = tmp_path / "model"
    save_quantized(model, folder)
    text = (folder / "manifest.json").read_text()
    content = json.loads(text)
    cases = {
        "checksum of every file": content | {"sha256": {}},
        "only the fields": content | {"config": content["config"] | {"magic": 1}},
        "torch dtype": content | {"dtypes": {"vae": "save"}},
        "statistics in the manifest": content | {"statistics": {}},
    }
    for message, changed in cases.items():
        (folder / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            load_quantized(folder)


def test_refuses_to_save(dit, model, tmp_path):
    with pytest.raises(ValueError, match="got a float one"):
        save_quantized(dit, tmp_path / "model")
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        save_quantized(model, tmp_path)


def test_refuses_to_load(model, tmp_path):
    with pytest.raises(ValueError, match=r"with manifest\.json"):
        load_quantized(tmp_path)
    folder = tmp_path / "model"
    save_quantized(model, folder)
    weights, manifest = folder / "transformer" / "diffusion_pytorch_model.safetensors", folder / "manifest.json"
    data, text = weights.read_bytes(), manifest.read_text()
    for name in json.loads(text)["sha256"]:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ValueError, match=f"'{name}' as it was saved .* got a damaged file"):
            load_quantized(folder)
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"'{name}' in .* got no such file"):
            load_quantized(folder)
        (folder / name).write_bytes(whole)
    assert weights.read_bytes() == data
    manifest.write_text(text[:-9])
    with pytest.raises(ValueError, match="Expected JSON in"):
        load_quantized(folder)
    manifest.write_text(text.replace('"versions"', '"version"'))
    with pytest.raises(ValueError, match=r"\['version', 'versions'\] missing or unknown"):
        load_quantized(folder)
    manifest.write_text(text.replace('"blocks.1.fc2"', '"blocks.1.fc3"'))
    with pytest.raises(ValueError, match="Expected the layers that the config"):
        load_quantized(folder)
    manifest.write_text(text.replace("ptq4dit-checkpoint-4", "ptq4dit-checkpoint-9"))
    with pytest.raises(ValueError, match="got 'ptq4dit-checkpoint-9'"):
        load_quantized(folder)
    manifest.write_text(text.replace('"weight_bits": 4', '"weight_bits": 16'))
    with pytest.raises(ValueError, match="Expected config in the manifest"):
        load_quantized(folder)
