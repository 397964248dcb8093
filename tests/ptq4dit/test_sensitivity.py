"""Sensitivity of single sites, and the bits that a budget is spent on, against trying every choice."""

import itertools
import random

import pytest
import torch

from ptq4dit.calibration.run import Cancelled, calibrate
from ptq4dit.calibration.trajectories import collect
from ptq4dit.checkpoint.packed import packed_bytes
from ptq4dit.config import sensitivity as module
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.sensitivity import Sensitivity
from ptq4dit.methods.registry import quantize
from ptq4dit.methods.sensitivity import sensitivity

CALIBRATION = CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=3, rows_per_timestep=4)


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CALIBRATION)


@pytest.fixture(scope="module")
def data(dit):
    return collect(dit, CALIBRATION)


@pytest.fixture(scope="module")
def found(dit, stats, data):
    return sensitivity(dit, stats, QuantConfig(weight_range="minmax"), bits=(3, 8), data=data)


def random_table(seed, sites=6, bits=(2, 4, 8), largest=40):
    draw = random.Random(seed)
    names = [f"blocks.{index}" for index in range(sites)]
    errors = {name: {width: draw.random() / width for width in bits} for name in names}
    sizes = {name: {width: width * draw.randint(1, largest) for width in bits} for name in names}
    return Sensitivity(model="m", samples=1, errors=errors, bytes=sizes, fixed_bytes=draw.randint(0, 100))


def by_trying(table, budget):
    best = None
    for bits in itertools.product(*(table.errors[site] for site in table.errors)):
        size, error = table.total(dict(zip(table.errors, bits, strict=True)))
        if size <= budget and (best is None or error < best):
            best = error
    return best


@pytest.mark.parametrize("seed", range(8))
def test_the_chosen_bits_are_the_best_of_all(seed):
    table = random_table(seed)
    smallest, largest = (
        table.fixed_bytes + sum(kind(sizes.values()) for sizes in table.bytes.values()) for kind in (min, max)
    )
    for share in (0.0, 0.2, 0.5, 0.9, 1.0):
        budget = smallest + int(share * (largest - smallest))
        size, error = table.total(table.chosen_bits(budget))
        assert size <= budget and error == pytest.approx(by_trying(table, budget))


def test_many_different_sizes_stay_near_the_best(monkeypatch):
    table = random_table(3, largest=10_000)
    budget = table.fixed_bytes + sum(sizes[4] for sizes in table.bytes.values())
    budget = max(budget, table.fixed_bytes + sum(min(sizes.values()) for sizes in table.bytes.values()))
    best = by_trying(table, budget)
    monkeypatch.setattr(module, "_MOST", 60)
    size, error = table.total(table.chosen_bits(budget))
    assert size <= budget and error <= 1.1 * best


def test_a_budget_below_the_fewest_bits_is_refused_with_the_smallest_that_is_not():
    table = random_table(0)
    smallest = table.fixed_bytes + sum(min(sizes.values()) for sizes in table.bytes.values())
    assert table.total(table.chosen_bits(smallest))[0] == smallest
    with pytest.raises(ValueError, match=f"at least {smallest} bytes"):
        table.chosen_bits(smallest - 1)


def test_each_site_is_rounded_alone(dit, stats, data, found):
    """The error of one site is that of a model in which an override leaves all others in float."""
    others = {name: {"weight_bits": 16, "activation_bits": 16} for name in stats.layers if name != "blocks.1.fc1"}
    alone = quantize(dit, stats, QuantConfig(weight_bits=3, weight_range="minmax", overrides=others))
    pairs = data.pairs()
    chosen = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[: min(len(pairs), 8)].sort().values
    call = data.call(pairs[chosen].flatten())
    with torch.no_grad():
        exact, rounded = (call.on(model.transformer).sample[:, :4].double() for model in (dit, alone))
    exact, rounded = (4.0 * values[0::2] - 3.0 * values[1::2] for values in (exact, rounded))
    expected = float((rounded - exact).square().sum() / exact.square().sum())
    assert found.errors["blocks.1.fc1"][3] == pytest.approx(expected, rel=1e-3)
    assert list(found.errors) == list(stats.layers) and found.model == stats.model


def test_more_bits_err_less_and_take_more(found):
    for site, errors in found.errors.items():
        assert errors[8] < errors[3] and found.bytes[site][8] > found.bytes[site][3]


def test_a_model_of_a_budget_is_within_it_and_errs_no_more_than_a_uniform_one(dit, stats, found):
    smallest = packed_bytes(quantize(dit, stats, QuantConfig(weight_bits=3)))
    largest = packed_bytes(quantize(dit, stats, QuantConfig(weight_bits=8)))
    middle = (smallest + largest) // 2
    config = QuantConfig.budget(bytes=middle, sensitivity=found, weight_range="minmax")
    model = quantize(dit, stats, config)
    assert smallest < packed_bytes(model) <= middle
    settings = model.transformer.ptq4dit_record.settings
    chosen = found.chosen_bits(middle)
    assert {name: settings[name].weight_bits for name in chosen} == chosen and set(chosen.values()) == {3, 8}
    assert QuantConfig.from_json(config.to_json()) == config


def test_overrides_that_are_given_win(found):
    smallest = found.fixed_bytes + sum(sizes[3] for sizes in found.bytes.values())
    config = QuantConfig.budget(bytes=smallest, sensitivity=found, overrides={"blocks.0.*": {"weight_bits": 6}})
    assert config.weight_bits == 3 and config.layer("blocks.0.fc1").weight_bits == 6
    with pytest.raises(ValueError, match="weight_bits to be left to the budget"):
        QuantConfig.budget(bytes=smallest, sensitivity=found, weight_bits=4)


def test_saved_and_loaded(found, tmp_path):
    found.save(tmp_path / "s.json")
    assert Sensitivity.load(tmp_path / "s.json") == found
    (tmp_path / "s.json").write_text("{}")
    for name in ("s.json", "none.json"):
        with pytest.raises(ValueError, match=r"Expected a sensitivity in .*Measure it again"):
            Sensitivity.load(tmp_path / name)


@pytest.mark.parametrize(
    "changed", [{"errors": {}}, {"bytes": {"other": {4: 1}}}, {"bytes": {"a": {4: -1}}}, {"errors": {"a": {8: 0.1}}}]
)
def test_what_is_no_table_is_refused(changed):
    whole = {"model": "m", "samples": 1, "errors": {"a": {4: 0.1}}, "bytes": {"a": {4: 1}}, "fixed_bytes": 0}
    with pytest.raises(ValueError, match="Expected"):
        Sensitivity(**whole | changed)


def test_it_can_be_stopped(dit, stats, data):
    with pytest.raises(Cancelled):
        sensitivity(dit, stats, data=data, cancelled=lambda: True)


def test_scales_of_timestep_groups_are_told_their_timestep(dit, stats, data):
    config = QuantConfig(activation_granularity="per_timestep_group", timestep_groups=2, weight_range="minmax")
    seen = []
    sensitivity(dit, stats, config, bits=(4,), data=data, samples=2, progress=lambda *done: seen.append(done))
    assert seen[-1] == (8, 8)
