"""A DiT's modulation on integers, and what a plain call remembers."""

import threading

import pytest
import torch

from ptq4dit.backends.dispatch import with_backend
from ptq4dit.backends.openvino_modulation import OpenVinoModulation
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.products import linear_precisions
from ptq4dit.backends.seen_modulations import SeenModulations
from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.model.forward import Modulation, modulate

PAIRS = torch.tensor([900.0, 500.0, 3.5]), torch.tensor([0, 5, 2])
CONFIGS = {
    "W4A8": QuantConfig(weight_bits=4, modulation=True, conditioning=True, final_layer=True),
    "W8A8": QuantConfig(weight_symmetric=True, modulation=True),
}


@pytest.fixture(scope="module")
def shared(make_dit):
    """Its blocks embed alike, as a trained one's."""
    dit = make_dit()
    first, *others = (block.norm1.emb for block in dit.transformer.transformer_blocks)
    for other in others:
        other.load_state_dict(first.state_dict())
    return dit


@pytest.fixture(scope="module")
def stats(shared):
    return calibrate(shared, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2, rows_per_timestep=4))


@pytest.fixture
def options(tmp_path):
    return IntegerOptions(cache=tmp_path, threads=1)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_modulation_is_the_twins_and_of_integers(name, shared, stats, options):
    twin = quantize(shared, stats, CONFIGS[name])
    model = with_backend(twin, "integer", options).transformer
    actual, expected = model.modulate(*PAIRS), modulate(twin.transformer, *PAIRS)
    torch.testing.assert_close(actual.blocks, expected.blocks, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(actual.final, expected.final, rtol=1e-4, atol=1e-4)
    assert isinstance(model._modulation, OpenVinoModulation)
    precisions = linear_precisions(model._modulation.compiled)
    assert {precisions[f"blocks.{index}.modulation"] for index in range(2)} <= {"u8", "i8"}


@pytest.mark.parametrize(
    "config", [QuantConfig(weight_bits=4), QuantConfig(weight_bits=4, modulation=True, weight_range="minmax")]
)
def test_what_no_graph_expresses_is_the_twins(config, dit, shared, stats, options):
    """A modulation in float, or blocks that embed each in its own way."""
    own = calibrate(dit, stats.config)
    twin = quantize(dit, own, config) if config.modulation else quantize(shared, stats, config)
    model = with_backend(twin, "integer", options).transformer
    assert model._modulation is modulate
    assert torch.equal(model.modulate(*PAIRS).blocks, modulate(twin.transformer, *PAIRS).blocks)


def test_a_plain_call_computes_each_pair_once(shared, stats, options, monkeypatch):
    model = with_backend(quantize(shared, stats, CONFIGS["W4A8"]), "integer", options).transformer
    asked, own = [], model._modulation
    vars(model)["_modulation"] = lambda twin, *pairs: (asked.append(len(pairs[0])), own(twin, *pairs))[1]
    x = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def call(timestep, labels):
        return model(x, timestep=torch.tensor(timestep), class_labels=torch.tensor(labels)).sample

    first = call(500, [1, 5, 1, 5])
    assert asked == [2] and torch.equal(call(500, [1, 5, 1, 5]), first) and asked == [2]
    assert torch.equal(call(500, [5, 1, 1, 5])[2:], first[2:]) and asked == [2]
    call(500, [1, 2, 5, 3])
    assert asked == [2, 2]
    call([500, 499, 500, 500], [1, 1, 1, 5])
    assert asked == [2, 2, 1]
    assert torch.equal(model.predict(x, model.modulate(torch.full((4,), 500), torch.tensor([1, 5, 1, 5]))), first)


def made(timesteps, labels):
    rows = (timesteps * 1000 + labels).float()
    return Modulation(
        blocks=rows[:, None, None, None].expand(-1, 3, 6, 8),
        final=rows[:, None, None].expand(-1, 2, 8),
        timesteps=timesteps,
    )


def test_what_is_remembered_is_bounded_and_the_least_used_goes_first():
    row = (3 * 6 + 2) * 8 * 4
    seen, asked = SeenModulations(limit=2 * row), []

    def make(timesteps, labels):
        asked.extend(zip(timesteps.tolist(), labels.tolist(), strict=True))
        return made(timesteps, labels)

    for timestep in (1, 2, 1, 3, 1, 2):
        batch = seen.batch(make, torch.tensor([timestep, timestep]), torch.tensor([7, 7]))
        assert (batch.blocks == timestep * 1000 + 7).all() and batch.final.shape == (2, 2, 8)
    assert asked == [(1, 7), (2, 7), (3, 7), (2, 7)] and seen._held == 2 * row
    everything = seen.batch(make, torch.arange(9), torch.zeros(9, dtype=torch.long))  # more than is remembered
    assert everything.blocks[:, 0, 0, 0].tolist() == [1000.0 * index for index in range(9)] and seen._held == 2 * row


def test_several_threads_may_ask():
    seen, wrong = SeenModulations(limit=4 * (3 * 6 + 2) * 8 * 4), []

    def work(offset):
        for index in range(200):
            pair = torch.tensor([index % 7 + offset]), torch.tensor([index % 3])
            if not (seen.batch(made, *pair).blocks == pair[0] * 1000 + pair[1]).all():
                wrong.append(pair)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong and seen._held == sum(a.nbytes + b.nbytes for a, b in seen._rows.values())
