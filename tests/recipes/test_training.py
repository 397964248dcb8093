"""What training recipes share: the optimizer, the state that a stop does not lose, the rate, the autoencoder."""

import math

import numpy as np
import pytest
import torch
from classifier import LabelledPictures, fit
from judge import SceneJudge, accuracies, by_attribute, judge_loss
from latents import LatentSet, encode, latents_folder
from optimizer import Together, orthogonal
from run import Run, learning_rate
from scenes import ATTRIBUTES, UNSEEN
from torch import nn
from train_vae import build_vae, export, measure, to_signal, whole_loss

from ptq4dit.metrics.classifier import SceneClassifier


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32)])
def test_orthogonal_keeps_directions_and_makes_sizes_alike(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.5 and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert nn.functional.cosine_similarity(orthogonal(matrix).flatten(), (left @ right).flatten(), dim=0) > 0.95


def small_run(path) -> tuple[Run, list[torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.GELU(), nn.Linear(32, 16))
    return Run(model, Together(model, 1e-2, lambda name, p: p.ndim == 2), path)


def steps(run: Run, count: int) -> list[float]:
    """Steps on a fixed task, drawn by the run's own step number."""
    losses = []
    for _ in range(count):
        x = torch.randn(64, 20, generator=torch.Generator().manual_seed(run.step))
        loss = (run.model(x) - x[:, :16].abs()).square().mean()
        loss.backward()
        run.optimizer.step()
        run.step += 1
        run.update_average()
        losses.append(loss.item())
    return losses


def test_a_resumed_run_takes_the_steps_that_an_unbroken_one_takes(tmp_path) -> None:
    unbroken = small_run(tmp_path / "none.pt")
    expected = steps(unbroken, 12)
    assert expected[-1] < 0.75 * expected[0], "it learns"
    first = small_run(tmp_path / "run.pt")
    steps(first, 7)
    first.save()
    resumed = small_run(tmp_path / "run.pt")
    assert resumed.step == 7
    assert steps(resumed, 5) == expected[7:]
    for name, value in unbroken.average.items():
        assert torch.equal(resumed.average[name], value)


def test_a_run_ends_with_its_budget_and_leaves_its_state(tmp_path) -> None:
    run = small_run(tmp_path / "run.pt")
    run.train(lambda: run.model(torch.ones(4, 20)).square().mean(), minutes=0.004, peak=1e-3)
    assert run.step > 3 and 0.23 < run.seconds < 2
    again = small_run(tmp_path / "run.pt")
    again.train(lambda: pytest.fail("the budget is spent"), minutes=0.004, peak=1e-3)
    assert again.step == run.step


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    assert learning_rate(1.0, 0, 0.0) == pytest.approx(0.01)
    assert learning_rate(1.0, 500, 0.3) == 1.0
    assert learning_rate(1.0, 500, 0.8) == pytest.approx(1 - math.sqrt(0.5))
    assert learning_rate(1.0, 500, 1.0) == pytest.approx(0.0)


def test_the_autoencoder_has_the_latents_that_both_models_expect() -> None:
    vae = build_vae().eval()
    picture = torch.zeros(2, 3, 128, 128)
    with torch.no_grad():
        latents = vae.encode(picture).latent_dist.mean
        assert latents.shape == (2, 8, 16, 16)
        assert vae.decode(latents).sample.shape == picture.shape
    assert vae.config.shift_factor == 0.0, "the text pipeline adds it"


def test_the_autoencoder_learns_and_is_exported_with_latents_of_unit_variance(work) -> None:
    from dataset import SceneSet
    from train_vae import _is_inner_kernel

    torch.manual_seed(0)
    vae = build_vae()
    run = Run(vae, Together(vae, 2e-3, _is_inner_kernel), work / "vae.pt")
    picture = to_signal(torch.from_numpy(SceneSet.open(work / "train").pictures(range(2))))
    losses = []
    for _ in range(4):
        loss = whole_loss(vae, picture)
        loss.backward()
        run.optimizer.step()
        run.step += 1
        run.update_average()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    report = export(run, work, "whole")
    again = type(vae).from_pretrained(work / "vae").eval()
    assert report["psnr_db"] == pytest.approx(measure(again, _test_pictures(work))["psnr_db"], abs=1e-3)
    scaled = encode(again, _test_pictures(work))[:, 0].float()
    assert scaled.std() == pytest.approx(1.0, abs=0.02)


def _test_pictures(work) -> torch.Tensor:
    from dataset import SceneSet

    return torch.from_numpy(SceneSet.open(work / "test").pictures(range(8)))


def test_latents_are_those_of_the_picture_and_of_its_mirror_image(work, monkeypatch) -> None:
    monkeypatch.setattr("latents.SHARD", 8)
    data = LatentSet.open(work)
    assert len(data) == 8 and list(data.singles()) == [0, 2, 4, 6]
    vae = build_vae().from_pretrained(work / "vae").eval()
    picture = _test_pictures(work)[[2, 5]]
    flipped = encode(vae, picture.flip(-1))[:, 0].float()
    got = data.latents(np.array([2, 5]), np.array([1, 1]))
    assert torch.allclose(got, flipped, atol=2e-2)
    assert not torch.allclose(got, data.latents(np.array([2, 5]), np.array([0, 0])), atol=0.1)


def test_latents_outlive_another_decoder_but_not_another_encoder(tmp_path) -> None:
    vae, folders = build_vae(), []
    for change in (None, vae.decoder.conv_out, vae.encoder.conv_in):
        if change is not None:
            nn.init.ones_(change.weight)
        vae.save_pretrained(tmp_path / "vae")
        folders.append(latents_folder(tmp_path))
    assert folders[0] == folders[1] != folders[2]


def test_the_judge_has_a_logit_for_every_value_and_learns_only_from_what_is_there() -> None:
    torch.manual_seed(0)
    judge = SceneJudge()
    logits = judge(torch.randn(2, 3, 128, 128))
    parts = by_attribute(logits)
    assert {name: part.shape[1] for name, part in parts.items()} == {k: len(v) for k, v in ATTRIBUTES.items()}
    wanted = torch.zeros(2, len(ATTRIBUTES), dtype=torch.long)
    wanted[1, list(ATTRIBUTES).index("place")] = UNSEEN
    without = [nn.functional.cross_entropy(part[:1], wanted[:1, 0]) for part in parts.values()]
    each = nn.functional.cross_entropy
    expected = (
        sum(each(part, wanted[:, 0], reduction="sum") / 2 for name, part in parts.items() if name != "place")
        + without[list(ATTRIBUTES).index("place")] / 2
    )
    assert judge_loss(logits, wanted).item() == pytest.approx(expected.item(), rel=1e-5)


def test_judges_are_trained_and_measured_on_rendered_sets(work, tmp_path) -> None:
    from dataset import SceneSet

    scenes = SceneSet.open(work / "train")
    torch.manual_seed(0)
    judge = SceneJudge()
    attributes = torch.from_numpy(scenes.attributes).long()
    pictures = LabelledPictures(scenes, torch.arange(len(scenes)), attributes, size=8, seed=0)
    run = fit(judge, pictures, judge_loss, tmp_path / "judge.pt", minutes=0.05)
    assert run.step > 0 and not judge.training
    found = accuracies(judge, scenes)
    assert set(found) == {*ATTRIBUTES, "all"} and found["all"] <= min(found[name] for name in ("floor", "sky"))
    labels = torch.from_numpy(scenes.classes())[:, None].expand(-1, 2)
    singles = LabelledPictures(scenes, torch.from_numpy(scenes.singles()), labels, size=8, seed=0)
    picture, drawn = singles.draw()
    assert picture.shape == (8, 3, 128, 128) and set(drawn.tolist()) <= {0, 1, 2, 3}
    assert SceneClassifier()(picture).shape == (8, 10)
