"""Look-ups for Inspect against the calibration itself, scipy's Spearman and the paper's equalities."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from app.services import inspection
from app.services.cache import forget_everything
from app.services.effect import layer_effect
from app.services.inspection import layer_errors, layer_view, map_numbers, salience_ratio
from app.services.models import explored

pytestmark = pytest.mark.usefixtures("explored_once")


@pytest.fixture
def stats():
    return explored("tiny").stats


def test_without_csb_nothing_is_balanced(stats):
    view = layer_view("tiny", "blocks.1.fc1", False, False, 1)
    assert not view.balanced
    np.testing.assert_array_equal(view.activation, stats.activation_salience["blocks.1.fc1"])
    np.testing.assert_array_equal(view.weight, stats.weight_salience["blocks.1.fc1"])
    np.testing.assert_array_equal(view.balanced_activation, view.activation)
    np.testing.assert_array_equal(view.factors, 1)


def test_csb_makes_both_saliences_equal_at_the_middle_timestep():
    view = layer_view("tiny", "blocks.0.proj", True, False, 1)
    middle = len(view.timesteps) // 2
    np.testing.assert_allclose(view.balanced_activation[middle], view.balanced_weight, rtol=1e-5)  # eq. 12
    np.testing.assert_allclose(view.balanced_weight**2, view.activation[middle] * view.weight, rtol=1e-5)  # eq. 5


def test_ssc_balances_the_weighted_salience():
    view = layer_view("tiny", "blocks.0.qkv", True, True, 1)
    calibrated = view.weights @ view.activation  # eq. 10
    np.testing.assert_allclose(calibrated * view.factors, view.balanced_weight, rtol=1e-5)
    np.testing.assert_allclose(view.weights, np.exp(-view.rho) / np.exp(-view.rho).sum(), rtol=1e-5)  # eq. 11


def test_rho_is_scipys():
    view = layer_view("tiny", "blocks.1.qkv", True, True, 1)
    for t in range(len(view.timesteps)):
        assert view.rho[t] == pytest.approx(spearmanr(view.activation[t], view.weight).statistic, abs=1e-5)
        after = spearmanr(view.balanced_activation[t], view.balanced_weight).statistic
        assert view.rho_balanced[t] == pytest.approx(after, abs=1e-5)


def test_fc2_is_shown_but_never_balanced():
    view = layer_view("tiny", "blocks.0.fc2", True, True, 1)
    assert not view.balanced
    np.testing.assert_array_equal(view.balanced_weight, view.weight)
    assert list(layer_errors("tiny", "blocks.0.fc2", 4, 8, 1).overall) == ["none"]


def test_the_dial_raises_activations_and_lowers_weights_by_as_much():
    before, after = (
        layer_view("tiny", "blocks.0.fc1", False, False, 1),
        layer_view("tiny", "blocks.0.fc1", False, False, 8),
    )
    raised = after.activation[0] / before.activation[0]
    assert set(np.round(raised, 3)) == {1, 8}
    np.testing.assert_allclose(before.weight / after.weight, raised, rtol=1e-4)


def test_errors_are_the_engines_and_shrink_with_bits():
    import ptq4dit

    model, config = explored("tiny"), ptq4dit.QuantConfig(weight_bits=4, activation_bits=8)
    errors = layer_errors("tiny", "blocks.1.fc1", 4, 8, 1)
    assert errors.overall == ptq4dit.layer_errors(model.dit.transformer, model.stats, "blocks.1.fc1", config)
    assert all(values.shape == (4,) for values in errors.over_time.values())
    for key, coarse in errors.overall.items():
        assert layer_errors("tiny", "blocks.1.fc1", 8, 8, 1).overall[key] < coarse


def test_with_a_scale_for_every_token_errors_are_the_engines_too(stats):
    import ptq4dit

    scales = {"activation_granularity": "per_token", "activation_symmetric": True}
    config = ptq4dit.QuantConfig(weight_bits=4, activation_bits=8, **scales)
    own = ptq4dit.layer_errors(explored("tiny").dit.transformer, stats, "blocks.0.fc1", config)
    told = layer_errors("tiny", "blocks.0.fc1", 4, 8, 1, True).overall
    assert told == pytest.approx(own, rel=1e-4)
    assert told != layer_errors("tiny", "blocks.0.fc1", 4, 8, 1).overall
    inputs = layer_effect("tiny", "blocks.0.fc1", 4, 8, 1, True).inputs["none"]
    assert (
        inputs["steps"] and inputs["levels"] == 255 and inputs["high"] - inputs["low"] == pytest.approx(254, rel=1e-3)
    )


def test_the_map_has_a_number_for_each_layer(stats):
    ratios = map_numbers("tiny", "activation", 4, 8, 1)
    assert list(ratios) == list(stats.layers)
    salience = np.asarray(stats.activation_salience["blocks.0.fc1"]).max(axis=0)
    assert ratios["blocks.0.fc1"] == pytest.approx(salience.max() / np.median(salience))
    errors = map_numbers("tiny", "csb+ssc", 4, 8, 1)
    assert np.isnan(errors["blocks.0.fc2"])
    assert errors["blocks.1.qkv"] == pytest.approx(
        100 * layer_errors("tiny", "blocks.1.qkv", 4, 8, 1).overall["csb+ssc"]
    )


def test_salience_ratio_by_hand():
    assert salience_ratio(np.array([1.0, 2.0, 2.0, 9.0])) == 4.5


@pytest.mark.parametrize(
    "look_up",
    [lambda layer: layer_view("tiny", layer, True, True, 1), lambda layer: layer_errors("tiny", layer, 4, 8, 1)],
)
def test_an_unknown_layer_is_refused_by_name(look_up):
    with pytest.raises(ValueError, match=r"one of blocks\.0\.qkv \.\.\. blocks\.1\.fc2 of tiny; got 'blocks\.2\.qkv'"):
        look_up("blocks.2.qkv")


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match=r"measure: expected one of activation, .*; got 'mass'"):
        map_numbers("tiny", "mass", 4, 8, 1)


def test_nearest_calibrated_timestep():
    view = layer_view("tiny", "blocks.0.fc1", False, False, 1)
    for i, timestep in enumerate(view.timesteps):
        assert view.nearest(int(timestep) + 3) == i


def test_a_look_up_is_worked_out_once(monkeypatch):
    forget_everything()
    calls = []
    real = inspection.site
    monkeypatch.setattr(inspection, "site", lambda model, layer: calls.append(layer) or real(model, layer))
    for _ in range(3):
        layer_view("tiny", "blocks.0.fc1", True, True, 1)
    assert calls == ["blocks.0.fc1"]
