import pytest
import torch

from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.metrics import psnr
from ptq4dit.model.layers import balanced_layers
from ptq4dit.paper.reparam import reparameterize
from ptq4dit.quantized.balance import model_factors
from ptq4dit.salience_dial import amplification_factors, amplified, amplify_salience
from ptq4dit.sampling.denoise import generate

CALIBRATION = CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=5)


def output(transformer):
    x = torch.randn(2, 4, 8, 8, dtype=transformer.dtype, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return transformer(x, timestep=torch.tensor([700, 1]), class_labels=torch.tensor([2, 5])).sample


def test_function_is_unchanged(make_dit):
    dit = make_dit(dtype=torch.float64)
    louder = amplify_salience(dit, 8.0, fraction=0.2)
    assert (output(louder.transformer) - output(dit.transformer)).abs().max() < 1e-10


def test_amplifying_then_balancing_keeps_the_function(make_dit):
    dit = make_dit(dtype=torch.float64)
    louder = amplify_salience(dit, 50.0, fraction=0.2)
    factors = model_factors(calibrate(louder, CALIBRATION), balanced_layers(louder.transformer), QuantConfig())
    folded = reparameterize(louder.transformer, factors)
    assert (output(folded) - output(dit.transformer)).abs().max() < 1e-10


def test_strength_one_is_the_same_model(dit):
    same = amplify_salience(dit, 1.0)
    state = same.transformer.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in dit.transformer.state_dict().items())


def test_salience_of_the_chosen_channels_grows_by_the_strength(dit):
    factors = amplification_factors(dit.transformer, 8.0, fraction=0.2, seed=1)
    stats = calibrate(dit, CALIBRATION)
    louder = calibrate(amplify_salience(dit, 8.0, fraction=0.2, seed=1), CALIBRATION)
    for name, factor in factors.items():
        assert sorted(set(factor.tolist())) == [1.0, 8.0] and int((factor == 8).sum()) == 3
        torch.testing.assert_close(
            louder.activation_salience[name], stats.activation_salience[name] * factor, rtol=1e-3, atol=1e-4
        )


def test_the_calibration_goes_along(dit):
    stats = calibrate(dit, CALIBRATION)
    assert amplified(dit, stats, 1) == (dit, stats)
    raised, rescaled = amplified(dit, stats, 8)
    rescaled.require_model(raised.transformer)
    with pytest.raises(ValueError, match="the model that was calibrated"):
        stats.require_model(raised.transformer)


def test_rounding_breaks_and_balancing_repairs(dit):
    louder = amplify_salience(dit, 30.0, fraction=0.1)
    stats, expected = calibrate(louder, CALIBRATION), generate(dit, [1, 2], steps=5)
    plain, balanced = (
        float(psnr(generate(quantize(louder, stats, config), [1, 2], steps=5), expected).mean())
        for config in (QuantConfig(csb=False, ssc=False), QuantConfig())
    )
    assert balanced > plain + 6


def test_seed_chooses_channels(dit):
    first, again, other = (amplification_factors(dit.transformer, 2.0, seed=s) for s in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(int((factor > 1).sum()) == 1 for factor in first.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 0.5}, "strength of at least 1"),
        ({"strength": float("nan")}, "finite strength"),
        ({"strength": 2.0, "fraction": 0.0}, "fraction of channels"),
        ({"strength": 2.0, "fraction": 1.5}, "fraction of channels"),
        ({"strength": 2.0, "seed": -1}, "seed of at least 0"),
    ],
)
def test_refuses(dit, arguments, message):
    with pytest.raises(ValueError, match=message):
        amplify_salience(dit, **arguments)
