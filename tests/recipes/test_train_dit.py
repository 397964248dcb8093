"""The class-conditional recipe on a toy: it trains, resumes, and its weights make a stock pipeline."""

import pytest
import torch
from diffusers import AutoencoderKL, DiTPipeline
from export import build_pipeline
from latents import LatentSet
from train_dit import Batches, build_dit, build_scheduler, is_inner_matrix, loss_of, snr_weights, start_run


@pytest.fixture
def data(work, monkeypatch):
    monkeypatch.setattr("latents.SHARD", 8)
    return LatentSet.open(work)


def take_steps(work, data, count: int):
    run = start_run(work, build_dit(layers=2, heads=2), peak=1e-3)
    loss = loss_of(run.model, Batches(data, build_scheduler(), size=8, seed=run.step))
    for _ in range(count):
        value = loss()
        value.backward()
        run.optimizer.step()
        run.step += 1
        run.update_average()
    run.save()
    return run, value


def test_the_first_prediction_is_zero_and_every_block_the_identity() -> None:
    torch.manual_seed(0)
    model = build_dit(layers=2, heads=2)
    given = {"timestep": torch.tensor([3]), "class_labels": torch.tensor([1]), "return_dict": False}
    assert model(torch.randn(1, 8, 16, 16), **given)[0].abs().max() == 0


def test_three_steps_then_three_more(work, data, tmp_path, monkeypatch) -> None:
    (tmp_path / "vae").symlink_to(work / "vae")
    torch.manual_seed(0)
    first, value = take_steps(tmp_path, data, 3)
    assert value.isfinite() and any(is_inner_matrix(name, p) for name, p in first.model.named_parameters())
    second, _ = take_steps(tmp_path, data, 3)
    assert second.step == 6
    monkeypatch.setattr("export.build_dit", lambda: build_dit(layers=2, heads=2))
    build_pipeline(tmp_path).save_pretrained(tmp_path / "pipeline")
    pipeline = DiTPipeline.from_pretrained(tmp_path / "pipeline")
    assert pipeline.get_label_ids(["cross"]) == [9]
    pipeline.set_progress_bar_config(disable=True)
    trained = pipeline.transformer.state_dict()
    assert torch.equal(trained["proj_out_2.weight"], second.average["proj_out_2.weight"].half().float())
    latents = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    out = pipeline.transformer(latents, timestep=torch.tensor([5]), class_labels=torch.tensor([9])).sample
    assert out.isfinite().all() and out.abs().max() > 0
    assert isinstance(pipeline.vae, AutoencoderKL) and pipeline.vae.config.latent_channels == 8


def test_batches_hold_single_things_alone_and_drop_labels(data) -> None:
    batches = Batches(data, build_scheduler(), size=400, seed=0)
    noisy, noise, timestep, label = batches.draw()
    assert noisy.shape == noise.shape == (400, 8, 16, 16)
    assert timestep.min() < 10 and timestep.max() > 989
    assert set(label.tolist()) == {0, 1, 2, 3, 10}, "four classes in eight scenes, and none"
    assert 0.05 < (label == 10).float().mean() < 0.16


def test_easy_timesteps_weigh_less() -> None:
    weights = snr_weights(build_scheduler())
    assert weights[0] < 0.01 and weights[-1] == 1.0 and (weights.diff() >= 0).all()
