"""One site rounded as a config says: its error is the converted model's own, and what numpy finds."""

import dataclasses

import numpy as np
import pytest
import torch

from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.methods.smoothquant import smoothing_factors
from ptq4dit.model.layers import balanced_layers
from ptq4dit.quantized.layer_error import layer_errors
from ptq4dit.quantized.trial import remainders, site_errors, stride
from ptq4dit.salience_dial import amplify_salience

FC1, FC2 = "blocks.0.fc1", "blocks.1.fc2"


@pytest.fixture(scope="module")
def louder(dit):
    return amplify_salience(dit, 20.0, fraction=0.1)


@pytest.fixture(scope="module")
def stats(louder):
    return calibrate(louder, CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=5, rows_per_timestep=8))


@pytest.fixture(scope="module")
def sites(louder):
    return balanced_layers(louder.transformer)


def test_plain_rounding_is_the_layer_error_known_already(louder, stats, sites):
    config = QuantConfig(weight_bits=4, activation_bits=6, csb=False, ssc=False)
    for name in ("blocks.0.qkv", FC1, FC2):
        expected = layer_errors(louder.transformer, stats, name, config)["none"]
        assert site_errors(sites[name], stats, config.layer(name))[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", ["dynamic", "hadamard", "svdquant", "rtn"])
@torch.no_grad()
def test_equals_the_error_of_the_methods_own_layer(louder, stats, sites, method):
    """Behind the GELU no method folds anything, so the converted model's module must give exactly this error."""
    options = {"rank": 4} if method == "svdquant" else {}
    config = QuantConfig(
        weight_bits=4, activation_bits=8, csb=False, ssc=False, method=method, options=options, group_size=8
    )
    converted = quantize(louder, stats, config).transformer.get_submodule("transformer_blocks.1.ff.net.2")
    linear, rows, rank = sites[FC2].linears[0], stats.samples[FC2].float(), converted.config.rank
    right = rows @ linear.weight.T
    expected = float((converted(rows) - linear.bias - right).square().sum() / right.square().sum())
    assert rank == (4 if method == "svdquant" else 0)
    errors = site_errors(sites[FC2], stats, converted.config, ranks=(rank,))
    assert errors[rank] == pytest.approx(expected, rel=1e-3)


def test_a_branch_on_a_smoothed_weight_is_what_numpy_finds(louder, stats, sites):
    """Per output channel the extremes are the grid, so that numpy can say it in a few lines."""
    config = QuantConfig(weight_bits=4, activation_bits=16, csb=False, ssc=False, weight_range="minmax").layer(FC1)
    factor = smoothing_factors(stats, [FC1], 0.5)[FC1]
    rows = stats.scaled({FC1: factor}).samples[FC1].float().numpy().reshape(-1, 16).astype(float)
    weight = (sites[FC1].linears[0].weight.detach() / factor).numpy().astype(float)
    u, s, v = np.linalg.svd(weight, full_matrices=False)
    for rank, found in site_errors(sites[FC1], stats, config, factor=factor, ranks=(0, 3, 16)).items():
        rest = weight - (u[:, :rank] * s[:rank]) @ v[:rank]
        low, high = np.minimum(rest.min(1), 0)[:, None], np.maximum(rest.max(1), 0)[:, None]
        scale = np.maximum((high - low) / 15, 1e-30)
        zero = np.clip(np.rint(-low / scale), 0, 15)
        rounded = (np.clip(np.rint(rest / scale) + zero, 0, 15) - zero) * scale
        expected = np.square(rows @ (rounded - rest).T).sum() / np.square(rows @ weight.T).sum()
        assert found == pytest.approx(expected, rel=2e-2, abs=1e-9)


def test_a_branch_of_full_rank_leaves_nothing_to_round(stats, sites):
    config = QuantConfig(weight_bits=2, activation_bits=4).layer(FC1)
    errors = site_errors(sites[FC1], stats, config, ranks=(0, 4, 16))
    assert errors[0] > errors[4] > errors[16] and errors[16] < 1e-8
    with pytest.raises(ValueError, match=r"Expected ranks of at most 16 .* got 17"):
        remainders(torch.ones(64, 16), [17])


def test_some_outputs_stand_for_all(stats, sites):
    assert (stride(64, None), stride(64, 64), stride(65, 64), stride(64, 16)) == (1, 1, 2, 4)
    config = QuantConfig(weight_bits=4, activation_bits=8).layer(FC1)
    some, whole = (site_errors(sites[FC1], stats, config, most_outputs=most)[0] for most in (32, None))
    assert some != whole and some == pytest.approx(whole, rel=0.3)


def test_without_kept_rows_it_is_said(stats, sites):
    bare = dataclasses.replace(stats, samples={})
    with pytest.raises(ValueError, match=r"kept no rows of blocks\.0\.fc1's input"):
        site_errors(sites[FC1], bare, QuantConfig().layer(FC1))
