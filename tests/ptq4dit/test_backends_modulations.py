"""What a sampler knows beforehand is computed once: the same numbers, in bounded pieces, hooks still served."""

import pytest
import torch

from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.model.forward import modulate, predict
from ptq4dit.sampling import predictor
from ptq4dit.sampling.denoise import denoise, guided
from ptq4dit.sampling.predictor import Modulations, run_of

CONFIGS = {
    "float": None,
    "W4A8": QuantConfig(weight_bits=4),
    "everything": QuantConfig(modulation=True, conditioning=True, patch_embed=True, final_layer=True, attention_bits=8),
    "groups": QuantConfig(activation_granularity="per_timestep_group", timestep_groups=2, modulation=True),
    "per token": QuantConfig(activation_granularity="per_token", weight_bits=4, group_size=8),
}


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=5, rows_per_timestep=8))


@pytest.fixture(scope="module")
def models(dit, stats):
    return {name: dit if config is None else quantize(dit, stats, config) for name, config in CONFIGS.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_two_parts_equal_the_whole(name, models):
    transformer = models[name].transformer
    x = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps, labels = torch.tensor([900, 500, 20, 3]), torch.tensor([0, 5, 2, 5])
    with torch.no_grad():
        expected = transformer(x, timestep=timesteps, class_labels=labels).sample
        actual = predict(transformer, x, modulate(transformer, timesteps, labels))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_blocks_with_embedders_of_their_own_use_them(dit):
    embedders = [block.norm1.emb for block in dit.transformer.transformer_blocks]
    assert not torch.equal(*(embedder.class_embedder.embedding_table.weight for embedder in embedders))
    pairs = torch.tensor([7]), torch.tensor([1])
    with torch.no_grad():
        norm = dit.transformer.transformer_blocks[1].norm1
        expected = norm.linear(torch.nn.functional.silu(embedders[1](*pairs, hidden_dtype=torch.float32)))
    torch.testing.assert_close(modulate(dit.transformer, *pairs).blocks[0, 1].flatten(), expected[0])


@pytest.mark.parametrize("limit", [0, 10**9])
def test_computed_in_pieces_or_at_once(dit, limit, monkeypatch):
    calls = []
    monkeypatch.setattr(predictor, "modulate", lambda *given: (calls.append(len(given[1])), modulate(*given))[1])
    labels = torch.tensor([3, 1, 3, 5])
    known = Modulations(dit.transformer, [90, 40, 7], labels, limit)
    for timestep in (90, 40, 7):
        expected = modulate(dit.transformer, torch.full((4,), timestep), labels)
        actual = known.at(timestep)
        torch.testing.assert_close(actual.blocks, expected.blocks)
        torch.testing.assert_close(actual.final, expected.final)
        assert actual.timesteps.tolist() == [timestep] * 4
    assert calls == ([9] if limit else [3, 3, 3])  # three classes, each once
    torch.testing.assert_close(known.at(123).final, modulate(dit.transformer, torch.full((4,), 123), labels).final)


def test_a_run_embeds_once(dit, monkeypatch):
    calls = []
    monkeypatch.setattr(predictor, "modulate", lambda *given: (calls.append(len(given[1])), modulate(*given))[1])
    assert len(list(denoise(dit, [1, 2], steps=4))) == 4
    assert calls == [12]  # four timesteps, two classes and none


def watched(transformer, seen):
    return [
        transformer.transformer_blocks[0].norm1.linear.register_forward_hook(lambda *_: seen.append("linear")),
        transformer.register_forward_pre_hook(lambda *_: seen.append("model")),
    ]


@pytest.mark.parametrize("name", ["float", "W4A8", "groups"])
def test_who_watches_sees_the_whole_model(name, models):
    """By asking for it, or by hooks that are there as the run begins; these are looked for once."""
    transformer, seen = models[name].transformer, []
    labels = torch.tensor([1, 5])
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output, asked = run_of(transformer, [500], labels), run_of(transformer, [500], labels, whole=True)
        begun_before = run_of(transformer, [500], labels)
        alone = output(x, 500)
        hooks = watched(transformer, seen)
        output(x, 500)
        assert seen == [], "this run began unwatched, knows its modulation, and does not look again"
        watched_output = begun_before(x, 500)
        assert seen == ["model", "linear"]
        for hook in hooks:
            hook.remove()
        called = [asked(x, 500), begun_before(x, 500)]
        hooks = watched(transformer, seen)
        asked(x, 500)
        for hook in hooks:
            hook.remove()
    assert seen == ["model", "linear", "model", "linear"]
    for other in (watched_output, *called):
        torch.testing.assert_close(alone, other, rtol=1e-4, atol=1e-4)


def test_hooks_are_looked_for_once_a_run(dit, monkeypatch):
    looked = []
    monkeypatch.setattr(predictor, "is_plain", lambda model: (looked.append(model), True)[1])
    list(denoise(dit, [1, 2], steps=4))
    assert looked == [dit.transformer]
    list(denoise(dit, [1, 2], steps=4, whole=True))
    assert looked == [dit.transformer]


def test_a_run_that_is_asked_for_the_whole_calls_the_model(dit):
    calls = []
    original = dit.transformer.forward

    class Spy(torch.nn.Module):
        forward = staticmethod(lambda *given, **named: (calls.append(1), original(*given, **named))[1])

    spy = Spy()
    spy.config = dit.transformer.config
    assert len(run_of(spy, [500], torch.tensor([1]), whole=True)(torch.zeros(1, 4, 8, 8), 500)) == len(calls) == 1


def test_a_replaced_forward_is_used(make_dit):
    dit = make_dit()
    zero = type("Output", (), {"sample": torch.zeros(1, 4, 8, 8)})
    dit.transformer.forward = lambda *given, **named: zero
    with torch.no_grad():
        assert guided(dit, [1], 1.0)(torch.ones(1, 4, 8, 8), 5).abs().max() == 0
