"""Inception's features, the network replaced by a small one of the same interface."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ptq4dit.benchmark.config import BenchmarkConfig
from ptq4dit.benchmark.measure import Judge, compare, draw
from ptq4dit.cli import main
from ptq4dit.metrics.classifier import SceneClassifier, judge
from ptq4dit.metrics.frechet import frechet_distance
from ptq4dit.metrics.inception import Inception
from ptq4dit.metrics.pictures import read_pictures


class SmallNetwork(nn.Module):
    """uint8 pictures -> (pooled features, logits), with the layer that spatial features are taken from."""

    def __init__(self, *_):
        super().__init__()
        torch.manual_seed(0)
        self.Mixed_6d = nn.Module()
        self.Mixed_6d.branch1x1 = nn.Conv2d(3, 12, 4, stride=4)
        self.fc = nn.Linear(12, 9)

    def forward(self, x):
        assert x.dtype == torch.uint8
        pooled = self.Mixed_6d.branch1x1(x / 128 - 1).mean((2, 3))
        return pooled, pooled @ self.fc.weight.T


@pytest.fixture
def extractor():
    return Inception(SmallNetwork())


def pictures(n=4, size=16, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_features_are_those_of_the_network(extractor):
    x = pictures()
    pooled, spatial, logits = extractor.extract(x)
    levels = (x * 255).round().byte()
    torch.testing.assert_close(pooled, extractor.network(levels)[0])
    torch.testing.assert_close(logits, extractor.network(levels)[1])
    maps = extractor.network.Mixed_6d.branch1x1(levels / 128 - 1)
    torch.testing.assert_close(spatial, maps[:, :7].flatten(1))
    assert spatial.shape == (4, 7 * 4 * 4) and not extractor.network.Mixed_6d.branch1x1._forward_hooks


def test_both_classifiers_are_judged_alike_and_in_batches(extractor):
    for model, x in ((extractor, pictures(120)), (SceneClassifier().eval(), pictures(120, 64))):
        together = judge(model, x)
        for whole, part in zip(together, judge(model, x[60:]), strict=True):
            torch.testing.assert_close(whole[60:], part)


def test_numbers_against_real_pictures(dit, extractor, tmp_path):
    real = pictures(9, seed=5)
    for index, picture in enumerate(real):
        array = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
        (tmp_path / str(index % 2)).mkdir(exist_ok=True)
        Image.fromarray(array).save(tmp_path / str(index % 2) / f"{index}.png")
    judged = Judge.of_pictures(tmp_path, 16, extractor)
    assert judged.pooled.shape == (9, 12)
    drawn = draw(dit, BenchmarkConfig(seeds=(0,), pictures=5, steps=2), 0)
    numbers = compare(drawn, drawn, judged)
    assert numbers["frechet"] == pytest.approx(
        frechet_distance(extractor.extract(drawn.pictures)[0], extractor.extract(real)[0]), rel=1e-4
    )
    assert "class_accuracy" not in numbers and numbers["inception_score"] >= 1


def test_pictures_are_cropped_to_the_middle_square(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide[:, 8:16, 0]).save(tmp_path / "xgrey.png")
    (batch,) = read_pictures(tmp_path, 4)
    torch.testing.assert_close(batch, torch.full((2, 3, 4, 4), 200 / 255))
    assert [len(part) for part in read_pictures(tmp_path, 4, batch=1)] == [1, 1]


def test_refuses_what_is_no_picture(tmp_path):
    with pytest.raises(ValueError, match="which has none"):
        list(read_pictures(tmp_path, 4))
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(ValueError, match="cannot be read"):
        list(read_pictures(tmp_path, 4))


def test_without_torch_fidelity_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match="pip install torch-fidelity"):
        Inception.load()


def test_weights_come_from_torch_fidelity(monkeypatch):
    asked = []

    def network(*arguments):
        asked.append(arguments)
        return SmallNetwork()

    name = "torch_fidelity.feature_extractor_inceptionv3"
    monkeypatch.setitem(sys.modules, "torch_fidelity", SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(FeatureExtractorInceptionV3=network))
    assert Inception.load().extract(pictures())[2].shape == (4, 9)
    assert asked == [("inception-v3-compat", ["2048", "logits_unbiased"])]

    def unreachable(*_):
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, name, SimpleNamespace(FeatureExtractorInceptionV3=unreachable))
    with pytest.raises(ValueError, match="could not be fetched: no network"):
        Inception.load()


def test_evaluate_against_a_folder_of_real_pictures(dit, extractor, tmp_path, monkeypatch, capsys):
    from diffusers import DiTPipeline

    model, real = tmp_path / "tiny", tmp_path / "real"
    DiTPipeline(dit.transformer, dit.vae, dit.scheduler).save_pretrained(model)
    real.mkdir()
    for index, picture in enumerate(pictures(6)):
        Image.fromarray((picture.permute(1, 2, 0) * 255).byte().numpy()).save(real / f"{index}.jpg")
    monkeypatch.setattr(Inception, "load", lambda device: extractor)
    stats = str(model / "calibration.safetensors")
    assert main(["calibrate", str(model), "--out", stats, "--timesteps", "2", "--samples", "2", "--steps", "2"]) == 0
    assert main(["evaluate", str(model), "--real", str(real), "--pictures", "5", "--steps", "2"]) == 0
    assert "spatial_frechet" in capsys.readouterr().out
    out, short = (
        tmp_path / "b.json",
        ("--pictures", "5", "--steps", "2", "--seeds", "1", "--bits", "W4A8", "--no-factorial"),
    )
    asked = ["benchmark", str(model), "--out", str(out), "--methods", "rtn", "--strengths", "1", *short]
    assert main([*asked, "--real", str(real)]) == 0 and "Frechet" in capsys.readouterr().out
    assert json.loads(out.read_text())["made"]["judge"] == "Inception, 6 real pictures"
    assert main(asked) == 2 and "Expected judge to be 'Inception, 6 real pictures'" in capsys.readouterr().err
