import dataclasses

import pytest
import torch

from ptq4dit.calibration import unbalanced
from ptq4dit.calibration.run import Cancelled, calibrate, conditions, observed_positions
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.model.attention import Product
from ptq4dit.model.layers import balanced_layers
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.paper.salience import channel_salience
from ptq4dit.sampling.denoise import denoise

CONFIG = CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=5, rows_per_timestep=6, seed=2)


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CONFIG)


def assert_same(actual, expected, rtol=0.0, atol=0.0):
    assert actual.layers == expected.layers and actual.model == expected.model
    assert torch.equal(actual.timesteps, expected.timesteps)
    for kind in ("activation_min", "activation_max", "weight_salience", "samples"):
        for layer in expected.layers:
            ours, theirs = getattr(actual, kind)[layer].float(), getattr(expected, kind)[layer].float()
            torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def test_shapes_and_order(dit, stats):
    assert stats.layers == [f"blocks.{i}.{role}" for i in range(2) for role in ("qkv", "proj", "fc1", "fc2")]
    assert stats.timesteps.tolist() == [800, 400, 0]
    for layer in stats.layers:
        width = balanced_layers(dit.transformer)[layer].in_features
        assert width == (64 if layer.endswith("fc2") else 16)
        assert stats.activation_salience[layer].shape == (3, width)
        assert stats.weight_salience[layer].shape == (width,)
        assert stats.samples[layer].shape == (3, 6, width)


def test_equals_looking_at_every_input(dit):
    """One image, every step observed: the statistics are those of all tensors that passed, both guidance halves."""
    config = dataclasses.replace(CONFIG, timesteps=3, steps=3, samples_per_timestep=1, rows_per_timestep=1000)
    stats = calibrate(dit, config)
    seen = {name: [] for name in stats.layers}
    hooks = [
        layer.linears[0].register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0]))
        for name, layer in balanced_layers(dit.transformer).items()
    ]
    chosen = conditions(dit, config, range(1))
    list(denoise(dit, steps=3, guidance_scale=config.guidance_scale, seed=config.seed, **chosen))
    for hook in hooks:
        hook.remove()
    for name, inputs in seen.items():
        expected = torch.stack([channel_salience(x) for x in inputs])
        torch.testing.assert_close(stats.activation_salience[name], expected, rtol=0, atol=0)
        tokens = torch.stack(inputs).flatten(1, 2)
        assert stats.samples[name].shape == tokens.shape == (3, 32, tokens.shape[-1])
        torch.testing.assert_close(stats.samples[name].float().sum(1), tokens.half().float().sum(1), rtol=0, atol=1e-3)


def test_samples_lie_within_the_extremes(stats):
    for layer in stats.layers:
        rows = stats.samples[layer].float()
        assert (rows >= stats.activation_min[layer][:, None] - 1e-2).all()
        assert (rows <= stats.activation_max[layer][:, None] + 1e-2).all()
        assert rows.std() > 0.01


def test_batch_size_changes_nothing(dit, stats):
    assert_same(calibrate(dit, CONFIG, batch_size=3), stats, atol=1e-2)


def test_merging_parts_equals_one_calibration(dit, stats):
    parts = [
        calibrate(dit, dataclasses.replace(CONFIG, first_sample=first, samples_per_timestep=count))
        for first, count in ((1, 2), (3, 1), (0, 1))
    ]
    merged = parts[0].merge(*parts[1:])
    assert merged.config == CONFIG
    assert_same(merged, stats, atol=1e-2)
    assert all(torch.equal(merged.sample_keys[name], stats.sample_keys[name]) for name in stats.layers)


def test_merging_refuses_gaps_overlaps_and_strangers(dit, stats, make_dit):
    with pytest.raises(ValueError, match="starts at 0 where 4 comes next"):
        stats.merge(stats)
    later = dataclasses.replace(stats, config=dataclasses.replace(CONFIG, first_sample=9))
    with pytest.raises(ValueError, match="starts at 9 where 4"):
        stats.merge(later)
    with pytest.raises(ValueError, match="one model made with one config"):
        stats.merge(dataclasses.replace(later, model="other"))


def test_rescaled_equals_calibrating_the_folded_model(make_dit):
    dit = make_dit(dtype=torch.float64)
    stats = calibrate(dit, CONFIG)
    generator = torch.Generator().manual_seed(0)
    factors = {
        name: torch.randn(layer.in_features, generator=generator, dtype=torch.float64).exp()
        for name, layer in balanced_layers(dit.transformer).items()
        if layer.role != "fc2"
    }
    folded = dit.with_transformer(reparameterize(dit.transformer, factors))
    rescaled, recalibrated = stats.rescaled(factors, dit.transformer), calibrate(folded, CONFIG)
    for layer in stats.layers:
        for kind in ("activation_min", "activation_max", "weight_salience"):
            ours, theirs = getattr(rescaled, kind)[layer], getattr(recalibrated, kind)[layer]
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(rescaled.samples[layer], recalibrated.samples[layer], rtol=2e-3, atol=1e-4)
    assert rescaled.model == recalibrated.model != stats.model


def test_rescaled_refuses_another_model(stats, make_dit):
    with pytest.raises(ValueError, match="Expected the model that was calibrated"):
        stats.rescaled({}, make_dit(seed=1).transformer)


def test_saving_loses_nothing(stats, tmp_path):
    stats.save(tmp_path / "c.safetensors")
    loaded = Calibration.load(tmp_path / "c.safetensors")
    assert_same(loaded, stats)
    assert loaded.config == stats.config and loaded.paths == stats.paths
    assert all(torch.equal(loaded.sample_keys[name], stats.sample_keys[name]) for name in stats.layers)
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_extremes_of_the_attention_are_those_that_torch_computes(make_dit):
    """q, k, v channel by channel, and the softmax: torch's own attention with the identity as values gives it."""
    dit = make_dit()
    attention = dit.transformer.transformer_blocks[1].attn1
    seen = {part: [] for part in "qkv"}
    for part, outputs in seen.items():
        attention.get_submodule(f"to_{part}").register_forward_hook(lambda _m, _a, y, own=outputs: own.append(y))
    stats = calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2))
    for part, outputs in seen.items():
        every = torch.cat(outputs).flatten(0, 1)
        for end, oracle in ((stats.extra_min, every.amin(0)), (stats.extra_max, every.amax(0))):
            found = end[f"blocks.1.{part}"]
            assert len(found) == 2
            torch.testing.assert_close(found.amin(0) if end is stats.extra_min else found.amax(0), oracle)
    q, k = (torch.cat(seen[part]).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in "qk")
    whole = torch.nn.functional.scaled_dot_product_attention(q, k, torch.eye(q.shape[2]).expand(*q.shape[:2], -1, -1))
    torch.testing.assert_close(stats.extra_max["blocks.1.softmax"].max(), whole.max())
    torch.testing.assert_close(stats.extra_min["blocks.1.softmax"].min(), whole.min())


@pytest.mark.parametrize("causal", [False, True])
def test_of_many_tokens_so_many_probabilities_are_looked_at(monkeypatch, causal):
    """Of tokens spread over all, whatever the batch and however many are formed at a time."""
    monkeypatch.setattr(unbalanced, "_A_ROW", 2 * 8 * 3)  # three of eight tokens: 0, 2, 5
    q, k, v = torch.randn(3, 4, 2, 8, 5, generator=torch.Generator().manual_seed(0))
    weights = torch.nn.functional.scaled_dot_product_attention(
        q, k, torch.eye(8).expand(4, 2, -1, -1), is_causal=causal
    )[..., [0, 2, 5], :]
    for at_once in (2**24, 1):
        monkeypatch.setattr(unbalanced, "_AT_ONCE", at_once)
        ends = unbalanced._extreme_probabilities(Product.of(q, k, v, is_causal=causal))
        torch.testing.assert_close(torch.stack([ends.min(), ends.max()]), torch.stack([weights.min(), weights.max()]))


def test_loading_is_strict(stats, tmp_path):
    from safetensors.torch import load_file, save_file

    with pytest.raises(ValueError, match="does not exist"):
        Calibration.load(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("not a calibration at all")
    with pytest.raises(ValueError, match="damaged"):
        Calibration.load(tmp_path / "text")
    save_file({"a": torch.ones(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match="Expected format"):
        Calibration.load(tmp_path / "other")
    stats.save(tmp_path / "whole")
    tensors = load_file(tmp_path / "whole")
    tensors.pop("samples/blocks.0.qkv")
    from safetensors import safe_open

    with safe_open(tmp_path / "whole", "pt") as file:
        save_file(tensors, tmp_path / "part", file.metadata())
    with safe_open(tmp_path / "whole", "pt") as file:
        broken = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        broken["activation_max/blocks.1.fc1"][0, 0] = torch.inf
        save_file(broken, tmp_path / "infinite", file.metadata())
    with pytest.raises(ValueError, match=r"got others in activation_max/blocks\.1\.fc1"):
        Calibration.load(tmp_path / "infinite")
    with pytest.raises(ValueError, match="Expected the tensors of 8 layers"):
        Calibration.load(tmp_path / "part")


def test_progress_and_cancelling(dit):
    seen = []
    calibrate(dit, CONFIG, progress=lambda done, total: seen.append((done, total)), batch_size=2)
    assert seen == [(i, 10) for i in range(1, 11)]
    with pytest.raises(Cancelled):
        calibrate(dit, CONFIG, cancelled=lambda: len(seen) > 0)
    assert not any(module._forward_pre_hooks for module in dit.transformer.modules())


def test_hooks_are_removed_when_the_model_fails(make_dit, monkeypatch):
    dit = make_dit()
    monkeypatch.setattr(dit.transformer, "forward", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        calibrate(dit, CONFIG)
    assert not any(module._forward_pre_hooks for module in dit.transformer.modules())


def test_refuses_infinite_activations_and_quantized_models(make_dit, stats, dit):
    broken = make_dit()
    with torch.no_grad():
        broken.transformer.transformer_blocks[1].norm1.linear.weight.fill_(3e38)
    with pytest.raises(ValueError, match="finite activations, got others into blocks"):
        calibrate(broken, CONFIG)
    with pytest.raises(ValueError, match="quantized already"):
        calibrate(quantize(dit, stats), CONFIG)


def test_memory_does_not_grow_with_samples(dit):
    """The result has the same size, and so has everything alive just before calibration ends."""
    few, many = (calibrate(dit, dataclasses.replace(CONFIG, samples_per_timestep=n), batch_size=2) for n in (2, 12))
    for kind in ("activation_min", "activation_max", "samples"):
        assert {n: t.shape for n, t in getattr(few, kind).items()} == {
            n: t.shape for n, t in getattr(many, kind).items()
        }
    alive = []

    def measure(done, total):
        if done == total:
            alive.append(live_tensor_bytes())

    for count in (4, 24):
        calibrate(dit, dataclasses.replace(CONFIG, samples_per_timestep=count), progress=measure, batch_size=2)
    assert alive[1] <= alive[0] * 1.01


def live_tensor_bytes():
    import gc

    return sum(o.numel() * o.element_size() for o in gc.get_objects() if issubclass(type(o), torch.Tensor))


def test_seed_changes_classes_noise_and_rows(dit, stats):
    other = calibrate(dit, dataclasses.replace(CONFIG, seed=3))
    assert not torch.equal(other.sample_keys["blocks.0.qkv"], stats.sample_keys["blocks.0.qkv"])
    assert not torch.equal(other.activation_max["blocks.0.qkv"], stats.activation_max["blocks.0.qkv"])


def test_without_guidance_only_the_class_half_is_seen(dit):
    config = dataclasses.replace(
        CONFIG, guidance_scale=1.0, timesteps=1, steps=1, samples_per_timestep=1, rows_per_timestep=99
    )
    assert calibrate(dit, config).samples["blocks.0.qkv"].shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("timesteps", "steps", "expected"), [(1, 5, [2]), (3, 5, [0, 2, 4]), (5, 5, [0, 1, 2, 3, 4]), (2, 9, [0, 8])]
)
def test_observed_positions(timesteps, steps, expected):
    config = CalibrationConfig(timesteps=timesteps, steps=steps)
    assert observed_positions(config) == expected
