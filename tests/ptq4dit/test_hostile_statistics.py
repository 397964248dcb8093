"""Calibrations, trajectories and their kin from strangers: every field is looked at before anything is computed."""

import json

import pytest
import torch

from ptq4dit import (
    Calibration,
    CalibrationConfig,
    QuantConfig,
    ReconstructionConfig,
    Trajectories,
    calibrate,
    collect,
    quantize,
)
from ptq4dit.benchmark.config import BenchmarkConfig
from ptq4dit.benchmark.measure import REAL_FORMAT, Judge
from ptq4dit.benchmark.run import benchmark
from ptq4dit.metrics.classifier import SceneClassifier, load_classifier
from ptq4dit.sampling.noise_correction import NoiseCorrection
from ptq4dit.storage.tensors import write_tensors
from tests.ptq4dit.hostile import edit_tensors, refused

CONFIG = CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2)
NAN = float("nan")
FIRST = "blocks.0.qkv"


@pytest.fixture(scope="module")
def statistics(dit, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "statistics.safetensors"
    calibrate(dit, CONFIG).save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def inputs(dit, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "inputs.safetensors"
    collect(dit, CONFIG).save(path)
    return path.read_bytes()


def tensor(name, value):
    return {"tensors": {name: value}}


def said(name, value):
    return {"metadata": {name: value if value is None or isinstance(value, str) else json.dumps(value)}}


def changed(name, **fields):
    """Some fields of one of the file's JSON texts."""
    return lambda metadata: {"metadata": {name: json.dumps(json.loads(metadata[name]) | fields)}}


STATISTICS = {
    "no names": said("names", None),
    "names of junk": said("names", "{"),
    "names in a list": said("names", []),
    "nested names": said("names", "[" * 100_000),
    "kinds missing": said("names", {"samples": [FIRST]}),
    "names as a number": changed("names", samples=3),
    "names in lists": changed("names", samples=[[1]]),
    "names twice": changed("names", samples=[FIRST, FIRST]),
    "no layers": changed("names", activation_min=[], activation_max=[], weight_salience=[], samples=[]),
    "no config": said("config", None),
    "config in a list": said("config", [1]),
    "steps as text": changed("config", steps="9"),
    "guidance of null": changed("config", guidance_scale=None),
    "guidance of nan": changed("config", guidance_scale=NAN),
    "no model": said("model", None),
    "paths in a list": said("paths", []),
    "paths as numbers": said("paths", {FIRST: 3}),
    "paths of others": said("paths", {"a": ["b"]}),
    "timesteps with two axes": tensor("timesteps", torch.ones(2, 2)),
    "no timesteps": tensor("timesteps", torch.ones(0)),
    "a timestep more": tensor("timesteps", torch.ones(3)),
    "a row less": tensor(f"activation_min/{FIRST}", torch.zeros(1, 16)),
    "channels less": tensor(f"activation_min/{FIRST}", torch.zeros(2, 5)),
    "no channels": tensor(f"activation_min/{FIRST}", torch.zeros(2, 0)),
    "ends in disorder": tensor(f"activation_min/{FIRST}", torch.full((2, 16), 9e9)),
    "integers": tensor(f"activation_min/{FIRST}", torch.zeros(2, 16, dtype=torch.int32)),
    "truths": tensor(f"activation_max/{FIRST}", torch.zeros(2, 16, dtype=torch.bool)),
    "nan": tensor(f"activation_max/{FIRST}", torch.full((2, 16), NAN)),
    "another weight": tensor(f"weight_salience/{FIRST}", torch.zeros(3)),
    "negative salience": tensor(f"weight_salience/{FIRST}", -torch.ones(16)),
    "another salience": tensor(f"sample_salience/{FIRST}", torch.zeros(3)),
    "samples with two axes": tensor(f"samples/{FIRST}", torch.zeros(3, 3)),
    "samples without rows": tensor(f"samples/{FIRST}", torch.zeros(2, 0, 16)),
    "samples of other channels": tensor(f"samples/{FIRST}", torch.zeros(2, 8, 5)),
    "other keys": tensor("sample_keys", torch.zeros(1)),
    "nothing of the embedding": tensor("extra_max/patch_embed", torch.zeros(0, 0)),
    "a tensor less": {"without": [f"samples/{FIRST}"]},
    "a tensor more": tensor("more", torch.zeros(1)),
}


@pytest.mark.parametrize("edit", STATISTICS)
def test_a_calibration(edit, statistics, tmp_path):
    refused(lambda: Calibration.load(edited(tmp_path, statistics, STATISTICS[edit])))


INPUTS = {
    "no config": said("config", None),
    "no arguments": said("arguments", None),
    "arguments of junk": said("arguments", "{"),
    "arguments in a list": said("arguments", []),
    "names as a number": changed("arguments", names=3),
    "one name": changed("arguments", names=["hidden_states"]),
    "conditions in a list": changed("arguments", conditions=[]),
    "a condition that is not there": changed("arguments", conditions={"x": {"tensor": 1}}),
    "a million million tensors": changed("arguments", conditions={"x": {"tensors": 10**12, "tuple": False}}),
    "tensors as text": changed("arguments", conditions={"x": {"tensors": "9", "tuple": False}}),
    "a condition of a number": changed("arguments", conditions={"x": 3}),
    "a condition without rows": changed("arguments", conditions={"x": {"value": 3}}),
    "a constant of nothing": changed("arguments", constants={"x": {"foo": 1}}),
    "no latents": {"without": ["latents"]},
    "nan": tensor("latents", torch.full((8, 4, 8, 8), NAN)),
    "no samples": tensor("latents", torch.zeros(0, 4, 8, 8)),
    "a timestep": tensor("timesteps", torch.zeros(1)),
    "halves of images": tensor("images", torch.full((8,), 0.5)),
    "negative images": tensor("images", torch.full((8,), -1)),
    "huge images": tensor("images", torch.full((8,), 10**17)),
    "classes less": tensor("conditions/class_labels", torch.zeros(3, dtype=torch.long)),
}


@pytest.mark.parametrize("edit", INPUTS)
def test_trajectories(edit, inputs, tmp_path):
    refused(lambda: Trajectories.load(edited(tmp_path, inputs, INPUTS[edit])))


def edited(folder, content, edit):
    from safetensors import safe_open

    path = folder / "x.safetensors"
    path.write_bytes(content)
    if callable(edit):
        with safe_open(path, "pt") as file:
            edit = edit(file.metadata())
    edit_tensors(path, **edit)
    return path


def test_whole_files_are_read(statistics, inputs, tmp_path):
    assert Calibration.load(edited(tmp_path, statistics, {})).layers[0] == FIRST
    assert len(Trajectories.load(edited(tmp_path, inputs, {}))) == 8


CORRECTION = {
    "timesteps": torch.tensor([1.0, 500.0]),
    "correlation": torch.zeros(2),
    "bias": torch.zeros(2, 4),
    "variance": torch.ones(2),
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"bias": torch.full((2, 4), NAN)},
        {"bias": torch.zeros(3, 4)},
        {"bias": torch.zeros(2)},
        {"correlation": torch.tensor(0.0)},
        {"correlation": -torch.ones(2)},
        {"timesteps": torch.tensor([5.0, 1.0])},
        {"timesteps": torch.zeros(0)},
        {"more": torch.zeros(2)},
    ],
    ids=str,
)
def test_a_noise_correction(wrong):
    assert NoiseCorrection.from_tensors(CORRECTION).bias.shape == (2, 4)
    refused(lambda: NoiseCorrection.from_tensors(CORRECTION | wrong))


def test_a_classifier_and_its_features(tmp_path):
    folder = tmp_path / "classifier"
    folder.mkdir()
    good = SceneClassifier().state_dict()
    for weights in (b"junk", {}, {"head.bias": torch.zeros(10**6)}, good | {"head.bias": torch.tensor(1.0)}):
        path = folder / "model.safetensors"
        if isinstance(weights, bytes):
            path.write_bytes(weights)
        else:
            write_tensors(path, weights, {}, "f")
        refused(lambda: load_classifier(folder / "model.safetensors"))
    write_tensors(folder / "model.safetensors", good, {}, "f")
    for features in ({}, {"pooled": torch.ones(3)}, {"pooled": torch.ones(3, 2), "spatial": torch.ones(3)}):
        write_tensors(folder / "real.safetensors", features, {}, REAL_FORMAT)
        refused(lambda: Judge.load(tmp_path))


def test_the_state_of_a_reconstruction(dit, statistics, tmp_path):
    stats = Calibration.load(edited(tmp_path, statistics, {}))
    config = QuantConfig(weight_bits=4, reconstruction=ReconstructionConfig(images=2, held_out=0.0))
    quantize(dit, stats, config, folder=tmp_path / "state")
    path = next((tmp_path / "state").glob("*-block-000.safetensors"))
    whole, name = path.read_bytes(), "attn1.to_q/weight_scale"
    for edit in (
        {"without": [name]},
        tensor("more", torch.ones(1)),
        tensor(name, torch.ones(3)),
        tensor(name, torch.full((16, 1), NAN)),
        tensor(name, torch.ones(16, 1, dtype=torch.int8)),
    ):
        path.write_bytes(whole)
        edit_tensors(path, **edit)
        assert "Remove the file" in refused(lambda: quantize(dit, stats, config, folder=tmp_path / "state"))


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "ptq4dit-benchmark-1"}', "[" * 100_000])
def test_results_of_a_benchmark(dit, statistics, tmp_path, content):
    stats = Calibration.load(edited(tmp_path, statistics, {}))
    (tmp_path / "results.json").write_text(content)
    refused(lambda: benchmark(dit, stats, BenchmarkConfig(), tmp_path / "results.json", {}))
