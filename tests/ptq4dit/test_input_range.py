"""The search for a layer's input range, against trying every range by torch's own fake quantizer."""

import dataclasses
import itertools

import pytest
import torch

from ptq4dit.calibration.run import calibrate
from ptq4dit.calibration.trajectories import collect
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.quantized.convert import convert
from ptq4dit.reconstruction.capture import input_of
from ptq4dit.reconstruction.closed_form import round_block, sample_weights
from ptq4dit.reconstruction.input_range import SHARES, search_input_range
from ptq4dit.reconstruction.walk import Walk

FC2 = "ff.net.2"
CALIBRATION = CalibrationConfig(timesteps=3, samples_per_timestep=6, steps=5, rows_per_timestep=16, seed=1)
COARSE = QuantConfig(method="rtn", csb=False, ssc=False, weight_bits=4, activation_bits=4)


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CALIBRATION)


@pytest.fixture(scope="module")
def data(dit):
    return collect(dit, CALIBRATION)


def rounding_error(x, weight, scale, zero_point, bits=4):
    """Squared error of the output when torch rounds the input."""
    rounded = torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero_point), 0, 2**bits - 1)
    return float(((rounded - x) @ weight.T).double().square().sum())


def case(dit, stats, data, config=COARSE, guidance=1.0):
    """The first block, float and quantized, its data, fc2's float weight, and equal weights of the samples."""
    walk = Walk(dit.transformer, convert(dit, stats, config).transformer, data, guidance)
    pair, found = next(iter(walk))
    alike = torch.ones(len(found), dtype=torch.float64)
    return pair, found, pair.exact.get_submodule(FC2).weight.detach(), alike


def test_the_scale_alone_is_the_best_of_the_shares(dit, stats, data):
    pair, found, weight, alike = case(dit, stats, data)
    layer = pair.block.get_submodule(FC2)
    scale, zero_point = search_input_range(pair, FC2, weight, found, alike, ends=False)
    x = input_of(pair.block, FC2, found.inputs.on)
    errors = {s: rounding_error(x, weight, layer.activation_scale * s, layer.activation_zero_point) for s in SHARES}
    assert float(scale / layer.activation_scale) == pytest.approx(min(errors, key=errors.get))
    assert torch.equal(zero_point, layer.activation_zero_point)


def test_both_ends_come_near_the_best_of_all_pairs_and_beat_the_scale_alone(make_dit):
    """GELU's output lies on one side of zero: clipping what is large must not clip what is small and negative.

    A channel that is large and hardly matters makes the upper end worth clipping, by far.
    """
    skewed = make_dit()
    with torch.no_grad():
        feed_forward = skewed.transformer.transformer_blocks[0].ff
        feed_forward.net[0].proj.weight[0].mul_(6)
        feed_forward.net[2].weight[:, 0].mul_(0.01)
    config = dataclasses.replace(COARSE, activation_bits=8)
    stats, data = calibrate(skewed, CALIBRATION), collect(skewed, CALIBRATION)
    pair, found, weight, alike = case(skewed, stats, data, config)
    layer = pair.block.get_submodule(FC2)
    x = input_of(pair.block, FC2, found.inputs.on)
    alone, both = (
        rounding_error(x, weight, *search_input_range(pair, FC2, weight, found, alike, ends=ends), 8)
        for ends in (False, True)
    )
    zero = int(layer.activation_zero_point)
    low, high = -zero * float(layer.activation_scale), (255 - zero) * float(layer.activation_scale)
    every = []
    for a, b in itertools.product(SHARES, SHARES):
        scale = (b * high - a * low) / 255
        every.append(rounding_error(x, weight, scale, round(-a * low / scale), 8))
    assert min(every) * 0.999 <= both < 0.7 * alone and both < 1.1 * min(every)


def test_every_group_of_timesteps_gets_what_it_would_get_alone(dit, stats, data):
    groups = {"activation_granularity": "per_timestep_group", "timestep_groups": 3}
    pair, found, weight, _ = case(dit, stats, data, dataclasses.replace(COARSE, **groups))
    gated = sample_weights(pair, pair.stages[-1], found)
    assert pair.stages[-1].names == (FC2,) and gated.unique().numel() > 1 and float(gated.max()) == 1
    scales, zero_points = search_input_range(pair, FC2, weight, found, gated, ends=True)
    assert scales.shape == zero_points.shape == (3,)
    for index, timestep in enumerate(stats.timesteps):
        chosen = found.timesteps == timestep
        alone = search_input_range(pair, FC2, weight, found.take(chosen), gated[chosen], ends=True)
        assert float(alone[0][index]) == pytest.approx(float(scales[index]))
        assert int(alone[1][index]) == int(zero_points[index])


def test_a_symmetric_grid_has_one_end_only(dit, stats, data):
    config = dataclasses.replace(COARSE, activation_symmetric=True)
    pair, found, weight, alike = case(dit, stats, data, config)
    grids = [search_input_range(pair, FC2, weight, found, alike, ends=ends) for ends in (False, True)]
    assert torch.equal(grids[0][0], grids[1][0]) and not grids[1][1].any()


def test_pairs_are_searched_on_what_guidance_makes_of_them(dit, stats, data):
    pairs = data.take(data.pairs().flatten())
    pair, found, weight, alike = case(dit, stats, pairs, guidance=4.0)
    scale, zero_point = search_input_range(pair, FC2, weight, found, alike, ends=True)
    layer, errors = pair.block.get_submodule(FC2), []
    x = input_of(pair.block, FC2, found.inputs.on)
    for one in ((layer.activation_scale, layer.activation_zero_point), (scale, zero_point)):
        wrong = torch.fake_quantize_per_tensor_affine(x, float(one[0]), int(one[1]), 0, 15) - x
        errors.append(float((found.views(wrong) @ weight.T).double().square().sum()))
    assert errors[1] < errors[0]


def test_the_closed_form_uses_both_ends_where_asked(dit, stats, data):
    pair, found, *_ = case(dit, stats, data)
    before = {name: int(pair.block.get_submodule(name).activation_zero_point) for name in ("attn1.to_q", FC2)}
    round_block(pair, found, damping=0.01, activation_ends=True)
    after = {name: int(pair.block.get_submodule(name).activation_zero_point) for name in before}
    assert after != before
    ones = [pair.block.get_submodule(f"attn1.to_{name}") for name in "qkv"]
    assert len({(float(one.activation_scale), int(one.activation_zero_point)) for one in ones}) == 1
