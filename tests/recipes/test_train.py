"""The one command that trains everything: what is done is not done again, and every recipe takes what it is given."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import train
from diffusers import AutoencoderKL


def test_a_stage_whose_result_is_there_is_not_run_again(tmp_path: Path) -> None:
    assert [stage.name for stage in train.pending(tmp_path)] == [stage.name for stage in train.STAGES]
    (tmp_path / "vae_whole.json").write_text("{}")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "pictures-00001.npy").write_bytes(b"")
    left = [stage.name for stage in train.pending(tmp_path)]
    assert "vae" not in left and "render test" not in left and "render train" in left and left[-1] == "text"
    assert [stage.name for stage in train.pending(tmp_path, "dit")] == ["dit", "decoder", "judge", "text"]
    with pytest.raises(ValueError, match="one of"):
        train.pending(tmp_path, "nothing")


def test_stages_run_in_turn_and_a_failure_stops_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def run(command: list[str], check: bool) -> None:
        ran.append(Path(command[1]).name)
        if command[1].endswith("classifier.py"):
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["train.py", "--work", str(tmp_path), "--from", "vae", "--anew"])
    with pytest.raises(subprocess.CalledProcessError):
        train.main()
    assert ran == ["train_vae.py", "classifier.py"]


@pytest.mark.parametrize("stage", train.STAGES, ids=lambda stage: stage.name)
def test_every_recipe_knows_the_arguments_of_its_stage(stage: train.Stage, tmp_path: Path) -> None:
    command = stage.command(tmp_path)
    recipe = Path(command[1])
    assert recipe.exists()
    flags = [part for part in command[2:] if part.startswith("--")]
    text = recipe.read_text()
    assert all(f'"{flag}"' in text for flag in flags)


def test_the_kept_autoencoder_is_taken_where_none_is(tmp_path: Path) -> None:
    train.take_trained(tmp_path)
    vae = AutoencoderKL.from_pretrained(tmp_path / "vae")
    assert vae.config.latent_channels == 8
    report = json.loads((tmp_path / "vae_whole.json").read_text())
    assert report["psnr_db"] >= 33 and "vae" not in [stage.name for stage in train.pending(tmp_path)]
    other = tmp_path / "other"
    (other / "vae").mkdir(parents=True)
    train.take_trained(other)
    assert not (other / "vae_whole.json").exists()
