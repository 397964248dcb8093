"""The recipes are scripts that import each other by name: let tests do so too."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "assets" / "recipes"))


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A work folder with eight rendered scenes to train on, the same to check with, and an untrained autoencoder."""
    import dataset
    import torch
    from train_vae import build_vae

    folder = tmp_path_factory.mktemp("work")
    for name in ("train", "test"):
        (folder / name).mkdir()
        dataset.write_shard(folder / name, seed=0, number=0, length=8)
    torch.manual_seed(0)
    build_vae().save_pretrained(folder / "vae")
    return folder
