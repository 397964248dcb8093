import dataclasses

import pytest
import torch

from ptq4dit.calibration.run import Cancelled, conditions, observed_positions
from ptq4dit.calibration.trajectories import Trajectories, collect
from ptq4dit.calibration.trajectory_parts import collect_in_parts
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.sampling.denoise import denoise, image_generator, initial_noise, make_scheduler

CONFIG = CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=5, seed=2)
TENSORS = ("latents", "timesteps", "labels", "images")


@pytest.fixture(scope="module")
def dit(make_dit):
    """Double precision: sampling amplifies what rounding does in another batch."""
    return make_dit(dtype=torch.float64)


@pytest.fixture(scope="module")
def data(dit):
    return collect(dit, CONFIG)


def assert_same(actual, expected):
    for name in TENSORS:
        assert torch.equal(getattr(actual, name), getattr(expected, name)), name


def test_counts_and_shapes(dit, data):
    assert len(data) == 4 * 3 * 2 and data.latents.shape == (24, *dit.latent_shape)
    assert all(getattr(data, name).shape == (24,) for name in TENSORS[1:])
    assert sorted(set(data.timesteps.tolist())) == [0, 400, 800]
    assert data.images.bincount().tolist() == [6] * 4


def test_both_halves_of_guidance_are_the_same_latents(dit, data):
    """Every image at every timestep comes once with its class and once with the null class."""
    for image in range(4):
        for timestep in (0, 400, 800):
            chosen = (data.images == image) & (data.timesteps == timestep)
            latents, labels = data.latents[chosen], data.labels[chosen]
            assert len(latents) == 2 and torch.equal(latents[0], latents[1])
            assert labels[0] != dit.null_class and labels[1] == dit.null_class
    classes = {
        int(i): set(data.labels[(data.images == i) & (data.labels != dit.null_class)].tolist()) for i in range(4)
    }
    assert all(len(found) == 1 for found in classes.values())


def test_pairs_are_the_two_halves_class_first(dit, data):
    shuffled = data.take(torch.tensor([i for start in (16, 0, 8) for i in range(start, start + 8)]))
    for some in (data, shuffled):
        pairs = some.pairs()
        assert pairs.shape == (12, 2) and pairs.flatten().sort().values.tolist() == list(range(24))
        classes, nulls = (some.take(pairs[:, half]) for half in (0, 1))
        assert (classes.labels != dit.null_class).all() and (nulls.labels == dit.null_class).all()
        for name in ("latents", "timesteps", "images"):
            assert torch.equal(getattr(classes, name), getattr(nulls, name))
    with pytest.raises(ValueError, match="both halves of guidance"):
        data.take(torch.arange(23)).pairs()


def test_is_what_sampling_gives_the_model(dit, data):
    """Sampling one of the images on its own passes through the kept latents."""
    image = 2
    label = int(data.labels[(data.images == image) & (data.labels != dit.null_class)][0])
    before = [initial_noise(dit, [image_generator(CONFIG.seed, image)])]
    before += [
        s.latents for s in denoise(dit, [label], CONFIG.steps, CONFIG.guidance_scale, CONFIG.seed, first_index=image)
    ]
    timesteps = make_scheduler(dit, CONFIG.steps, None).timesteps
    for position in observed_positions(CONFIG):
        chosen = (data.images == image) & (data.timesteps == timesteps[position])
        torch.testing.assert_close(data.latents[chosen][:1], before[position], rtol=1e-9, atol=1e-9)


def test_sees_the_images_of_the_calibration(dit, data):
    for image, label in enumerate(conditions(dit, CONFIG, range(4))["class_labels"]):
        assert label in data.labels[data.images == image].tolist()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_change_no_order_and_no_value(dit, data, batch_size):
    other = collect(dit, CONFIG, batch_size=batch_size)
    for name in TENSORS[1:]:
        assert torch.equal(getattr(other, name), getattr(data, name))
    torch.testing.assert_close(other.latents, data.latents, rtol=1e-9, atol=1e-9)


def test_same_seed_same_data_another_seed_others(dit, data):
    assert_same(collect(dit, CONFIG), data)
    assert not torch.equal(collect(dit, dataclasses.replace(CONFIG, seed=3)).latents, data.latents)


def test_images_and_timesteps_replace_those_of_the_config(dit):
    found = collect(dit, CONFIG, images=2, timesteps=5)
    assert len(found) == 2 * 5 * 2 and set(found.images.tolist()) == {0, 1}
    assert found.config.samples_per_timestep == 2 and found.config.timesteps == 5


def test_without_guidance_there_is_one_half(dit):
    found = collect(dit, dataclasses.replace(CONFIG, guidance_scale=1.0, samples_per_timestep=2))
    assert len(found) == 2 * 3 and (found.labels != dit.null_class).all()


def test_first_sample_moves_the_images(dit, data):
    found = collect(dit, dataclasses.replace(CONFIG, first_sample=2, samples_per_timestep=2))
    assert set(found.images.tolist()) == {2, 3}
    torch.testing.assert_close(found.latents, data.latents[data.images >= 2], rtol=1e-9, atol=1e-9)


def test_take_keeps_rows_together(data):
    rows = torch.tensor([5, 0, 23])
    taken = data.take(rows)
    assert len(taken) == 3 and all(torch.equal(getattr(taken, n), getattr(data, n)[rows]) for n in TENSORS)


def test_file_round_trip_and_refusals(data, tmp_path):
    path = tmp_path / "data.safetensors"
    data.save(path)
    loaded = Trajectories.load(path)
    assert_same(loaded, data)
    assert loaded.config == data.config
    with pytest.raises(ValueError, match="does not exist"):
        Trajectories.load(tmp_path / "none.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        Trajectories.load(path)


def test_progress_counts_every_step_and_cancelling_stops(dit):
    seen = []
    collect(dit, CONFIG, batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 10) for i in range(1, 11)]
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        collect(dit, CONFIG, cancelled=lambda: next(asked))


def test_the_model_keeps_no_hook(dit):
    with pytest.raises(Cancelled):
        collect(dit, CONFIG, cancelled=lambda: True)
    assert not dit.transformer._forward_pre_hooks


def test_data_of_the_former_format_still_load(data, tmp_path):
    from ptq4dit.storage.tensors import write_tensors

    path = tmp_path / "old.safetensors"
    tensors = {name: getattr(data, name) for name in TENSORS}
    write_tensors(path, tensors, {"config": data.config.to_json()}, "ptq4dit-trajectories-1")
    loaded = Trajectories.load(path)
    assert_same(loaded, data)
    assert torch.equal(loaded.halves, data.halves) and torch.equal(loaded.pairs(), data.pairs())
    write_tensors(path, tensors, {}, "something-else")
    with pytest.raises(ValueError, match="Expected format"):
        Trajectories.load(path)


def test_a_call_gives_the_model_what_it_was_given(dit, data):
    rows = torch.tensor([3, 20])
    given = {"timestep": data.timesteps[rows], "class_labels": data.labels[rows]}
    with torch.no_grad():
        expected = dit.transformer(data.latents[rows], **given).sample
        assert torch.equal(data.call(rows).on(dit.transformer).sample, expected)
    assert data.call(slice(0, 5)).args[0].shape[0] == 5


def test_parts_of_some_images_are_the_whole(dit, data, tmp_path, monkeypatch):
    """Collected eight at a time by default; two at a time here, stopped behind the first and gone on with."""
    monkeypatch.setattr("ptq4dit.calibration.trajectory_parts.IMAGES", 2)
    file = tmp_path / "data.safetensors"
    first, progress = collect_in_parts(dit, CONFIG, file, only_first=True)
    assert set(first.images.tolist()) == {0, 1} and progress.done == 1 and not file.exists()
    assert_same(collect_in_parts(dit, CONFIG, file)[0], collect(dit, CONFIG, batch_size=2))
    assert [path.name for path in tmp_path.iterdir()] == ["data.safetensors"]
