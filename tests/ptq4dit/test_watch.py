"""Watching whatever a person runs, on every family: statistics of all that passed, and a quantized model."""

import dataclasses

import pytest
import torch

import ptq4dit
from ptq4dit import CalibrationConfig, QuantConfig, calibrate, quantize_transformer, watch
from ptq4dit.model.families.family import Call
from ptq4dit.paper.salience import channel_salience
from ptq4dit.quantized.linear import QuantizedLinear
from tests.long_form import usually
from tests.ptq4dit.model.tiny_models import ONE_EACH, TINY, output_of, relative_difference, tiny

TIMES = (900, 450, 20)


def at(call, timestep, rows=slice(None)):
    """The call at one timestep for all rows; some of the rows, where every tensor has them."""
    given = {name: take(value, rows) for name, value in call.kwargs.items()}
    named = "t" if "t" in given else "timestep"
    return Call(args=call.args, kwargs=given | {named: torch.full_like(given[named], timestep)})


def take(value, rows):
    return value[rows] if isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == 2 else value


def watched(transformer, call, times=TIMES):
    with watch(transformer) as seen, torch.no_grad():
        for timestep in times:
            at(call, timestep).on(transformer)
    return seen.calibration()


@pytest.fixture(scope="module", params=usually(TINY, ONE_EACH))
def case(request):
    transformer, call = tiny(request.param, torch.float64)
    return request.param, transformer, call, watched(transformer, call)


def test_every_family_is_watched(case):
    _, transformer, _, stats = case
    assert stats.timesteps.tolist() == pytest.approx(list(TIMES))
    assert list(stats.paths) == stats.layers == list(ptq4dit.balanced_layers(transformer))
    for name in stats.layers:
        assert stats.activation_salience[name].shape == (3, len(stats.weight_salience[name]))
        assert stats.samples[name].shape[0] == 3 and stats.samples[name].shape[1] >= 2


def test_balancing_without_rounding_changes_nothing(case):
    """Folded where something absorbs, multiplied where nothing does: the same function, in the same class."""
    name, transformer, call, stats = case
    exact = output_of(transformer, at(call, 450))
    for balance in (True, None):
        config = QuantConfig(weight_bits=16, activation_bits=16, balance_inputs=balance)
        quantized = quantize_transformer(transformer, stats, config)
        assert type(quantized) is type(transformer)
        assert relative_difference(exact, output_of(quantized, at(call, 450))) < (1e-5 if "sana" in name else 1e-10)


@pytest.mark.parametrize("bits", [8, 4])
def test_every_site_is_rounded(case, bits):
    _, transformer, call, stats = case
    quantized = quantize_transformer(transformer, stats, QuantConfig(weight_bits=bits))
    for paths in stats.paths.values():
        assert all(isinstance(quantized.get_submodule(path), QuantizedLinear) for path in paths)
    exact, rounded = output_of(transformer, at(call, 450)), output_of(quantized, at(call, 450))
    error = float((rounded - exact).norm() / exact.norm())
    assert 0 < error < (0.15 if bits == 8 else 0.8)
    assert not any(module._forward_pre_hooks for module in transformer.modules())


def test_statistics_are_those_of_all_inputs(case):
    """Against inputs that a hook of the test kept."""
    _, transformer, call, stats = case
    layers, kept = ptq4dit.balanced_layers(transformer), {}
    hooks = [
        layer.linears[0].register_forward_pre_hook(lambda _, args, name=name: kept.setdefault(name, []).append(args[0]))
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        at(call, TIMES[1]).on(transformer)
    for hook in hooks:
        hook.remove()
    for name, (x,) in kept.items():
        x = x.flatten(2).transpose(1, 2) if isinstance(layers[name].linears[0], torch.nn.Conv2d) else x
        torch.testing.assert_close(stats.activation_salience[name][1], channel_salience(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sd3", "flux", "pixart-sigma", "wan"])
def test_guidance_in_one_batch_or_in_two_calls_is_the_same(name):
    transformer, call = tiny(name)
    together = watched(transformer, call)
    with watch(transformer) as seen, torch.no_grad():
        for timestep in TIMES:
            for half in (slice(0, 1), slice(1, 2)):
                at(call, timestep, half).on(transformer)
    apart = seen.calibration()
    for layer in together.layers:
        torch.testing.assert_close(together.activation_max[layer], apart.activation_max[layer], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(together.sample_salience[layer], apart.sample_salience[layer], rtol=1e-6, atol=1e-9)


def test_both_streams_are_told_apart():
    transformer, call = tiny("sd3")
    stats = watched(transformer, call)
    image, text = (
        next(name for name in stats.layers if ("context" in name) == context and name.endswith("qkv"))
        for context in (False, True)
    )
    assert stats.samples[image].shape[1:] == (8, 16) and stats.samples[text].shape[1:] == (8, 16)
    assert not torch.equal(stats.activation_max[image], stats.activation_max[text])
    assert not torch.equal(stats.sample_keys[image], stats.sample_keys[text])


def test_saved_and_used_in_another_copy_of_the_model(tmp_path):
    """A model that no file describes: which linears share an input comes with the statistics."""
    transformer, call = tiny("wan")
    stats = watched(transformer, call)
    stats.save(tmp_path / "wan.safetensors")
    fresh, _ = tiny("wan")
    loaded = ptq4dit.Calibration.load(tmp_path / "wan.safetensors")
    assert loaded.paths == stats.paths and any(len(paths) == 3 for paths in loaded.paths.values())
    first, second = (
        output_of(quantize_transformer(model, own, QuantConfig()), at(call, 450))
        for model, own in ((transformer, stats), (fresh, loaded))
    )
    assert torch.equal(first, second)


def test_the_dit_is_watched_as_it_is_calibrated(dit):
    config = CalibrationConfig(timesteps=3, samples_per_timestep=2, steps=3)
    expected = calibrate(dit, config)
    with watch(dit.transformer) as seen:
        from ptq4dit.calibration.run import conditions

        list(ptq4dit.denoise(dit, steps=3, guidance_scale=4.0, seed=0, **conditions(dit, config, range(2))))
    actual = seen.calibration()
    assert actual.timesteps.tolist() == expected.timesteps.tolist() and actual.model == expected.model
    for layer in expected.layers:
        torch.testing.assert_close(actual.activation_max[layer], expected.activation_max[layer], rtol=1e-5, atol=1e-6)


def test_nothing_seen_one_timestep_or_nan_is_one_sentence():
    transformer, call = tiny("sd3", torch.float32)
    with watch(transformer) as seen:
        pass
    with pytest.raises(ValueError, match="at least one forward pass"):
        seen.calibration()
    with pytest.raises(ValueError, match="several timesteps, got 900"):
        watched(transformer, call, times=(900,))
    broken = Call(kwargs=call.kwargs | {"hidden_states": call.kwargs["hidden_states"] * float("nan")})
    with pytest.raises(ValueError, match="finite activations"):
        watched(transformer, broken)
    mixed = Call(kwargs=call.kwargs | {"timestep": torch.tensor([1, 2])})
    with watch(transformer), pytest.raises(ValueError, match="one timestep for all rows"):
        mixed.on(transformer)
    assert not any(module._forward_pre_hooks for module in transformer.modules())


def test_what_is_quantized_already_is_refused():
    transformer, call = tiny("sd3", torch.float32)
    stats = watched(transformer, call)
    quantized = quantize_transformer(transformer, stats, QuantConfig())
    with pytest.raises(ValueError, match="quantized already"):
        watched(quantized, call)
    with pytest.raises(ValueError, match="modulation=True"):
        quantize_transformer(transformer, stats, QuantConfig(modulation=True))


def test_a_fork_with_another_forward_is_refused_and_named():
    """Its second block adds a constant behind the modulation that would absorb: folding would change the picture."""
    transformer, call = tiny("sd3")
    stats = watched(transformer, call)
    transformer.transformer_blocks[1].ff.register_forward_pre_hook(lambda _module, args: (args[0] + 0.5,))
    forked = dataclasses.replace(stats, example=at(call, 450))
    with pytest.raises(ValueError, match=r"differs.*blocks\.1"):
        quantize_transformer(transformer, forked, QuantConfig())
