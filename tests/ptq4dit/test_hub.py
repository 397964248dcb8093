"""The wiring to the hub, with the network's side replaced; what is uploaded is what is loaded again."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from ptq4dit.calibration.run import calibrate
from ptq4dit.checkpoint import hub
from ptq4dit.checkpoint.packed import load_quantized
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.sampling.denoise import generate


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    remote = tmp_path / "remote"

    class Api:
        def create_repo(self, name, private, exist_ok):
            assert exist_ok and private

        def upload_folder(self, repo_id, folder_path):
            shutil.copytree(folder_path, remote / repo_id)
            return SimpleNamespace(commit_url=f"hub/{repo_id}")

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "get_token", lambda: "token")
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(remote / name))
    return remote


def test_there_and_back(dit, fake_hub):
    stats = calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=3))
    model = quantize(dit, stats, QuantConfig(weight_bits=4))
    assert hub.push_to_hub(model, "me/dit-w4a8") == "hub/me/dit-w4a8"
    again = load_quantized(hub.fetch_quantized("me/dit-w4a8"))
    assert torch.equal(generate(again, [1], steps=2), generate(model, [1], steps=2))
    with pytest.raises(ValueError, match="got a float one"):
        hub.push_to_hub(dit, "me/float")


def test_refuses(dit, monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(ValueError, match="hf auth login"):
        hub.push_to_hub(dit, "me/x")
    with pytest.raises(ValueError, match="such as"):
        hub.fetch_quantized("../etc")

    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(ValueError, match=r"reachable hub repository.*no network"):
        hub.fetch_quantized("me/x")
