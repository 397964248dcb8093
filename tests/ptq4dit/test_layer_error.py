import pytest
import torch

from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.metrics import relative_error
from ptq4dit.model.layers import balanced_layers
from ptq4dit.quantized.layer_error import layer_errors, layer_errors_per_timestep
from ptq4dit.quantized.operands import channel_errors, layer_operands
from ptq4dit.salience_dial import amplify_salience

CALIBRATION = CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=5, rows_per_timestep=8)
CONFIG = QuantConfig(weight_bits=4, activation_bits=6)


@pytest.fixture(scope="module")
def louder(dit):
    return amplify_salience(dit, 20.0, fraction=0.1)


@pytest.fixture(scope="module")
def stats(louder):
    return calibrate(louder, CALIBRATION)


@pytest.mark.parametrize("layer", ["blocks.0.qkv", "blocks.1.proj", "blocks.0.fc1"])
def test_balancing_lowers_the_error_of_salient_layers(louder, stats, layer):
    errors = layer_errors(louder.transformer, stats, layer, CONFIG)
    assert list(errors) == ["none", "csb", "csb+ssc"]
    assert 0 < errors["csb"] < errors["none"] and 0 < errors["csb+ssc"] < errors["none"]


def test_fc2_is_not_balanced(louder, stats):
    assert len(set(layer_errors(louder.transformer, stats, "blocks.0.fc2", CONFIG).values())) == 1


def test_equals_the_quantized_models_own_linear(louder, stats):
    """fc2 has no factor and no neighbour's, so the converted model's module must give exactly this error."""
    linear = balanced_layers(louder.transformer)["blocks.1.fc2"].linears[0]
    converted = quantize(louder, stats, CONFIG).transformer.get_submodule("transformer_blocks.1.ff.net.2")
    rows = stats.samples["blocks.1.fc2"].float()
    expected = relative_error(rows @ linear.weight.T, converted(rows) - linear.bias)
    actual = layer_errors(louder.transformer, stats, "blocks.1.fc2", CONFIG)["csb+ssc"]
    assert actual == pytest.approx(expected, rel=1e-4)


def test_timesteps_average_to_the_whole(louder, stats):
    layer = "blocks.0.qkv"
    per_timestep = layer_errors_per_timestep(louder.transformer, stats, layer, CONFIG)
    whole = layer_errors(louder.transformer, stats, layer, CONFIG)
    for variant, errors in per_timestep.items():
        assert errors.shape == (3,)
        assert errors.min() <= whole[variant] <= errors.max()


def test_float_bits_make_no_error(louder, stats):
    config = QuantConfig(weight_bits=16, activation_bits=16)
    errors = layer_errors(louder.transformer, stats, "blocks.0.qkv", config)
    assert all(error < 1e-10 for error in errors.values())


def test_refuses_an_unknown_layer(louder, stats):
    with pytest.raises(ValueError, match="Unknown layer"):
        layer_errors(louder.transformer, stats, "blocks.0.fc3", CONFIG)


def test_operands_multiply_to_the_same_product_and_lie_on_their_grids(louder, stats):
    layer = "blocks.0.fc1"
    plain, balanced = (layer_operands(louder.transformer, stats, layer, CONFIG, v) for v in ("none", "csb+ssc"))
    exact = plain.input @ plain.weight.T
    torch.testing.assert_close(balanced.input @ balanced.weight.T, exact, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(plain.input, balanced.input)
    scale, zero_point = balanced.input_grid
    steps = balanced.rounded_input / scale + zero_point
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert steps.min() >= -1e-3 and steps.max() <= 2**6 - 1 + 1e-3
    scale, zero_point = balanced.weight_grid
    steps = balanced.rounded_weight / scale + zero_point
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert steps.min() >= -1e-3 and steps.max() <= 2**4 - 1 + 1e-3


def test_every_tokens_input_lies_on_a_grid_of_its_own(louder, stats):
    scales = {"activation_granularity": "per_token", "activation_symmetric": True}
    config = QuantConfig(weight_bits=4, activation_bits=6, **scales)
    one = layer_operands(louder.transformer, stats, "blocks.0.fc1", config, "csb")
    scale, zero_point = one.input_grid
    assert scale.shape == (*one.input.shape[:2], 1) and len(scale.unique()) > 1
    torch.testing.assert_close(scale, one.input.abs().amax(-1, keepdim=True) / 31)
    steps = one.rounded_input / scale + zero_point
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert steps.min() >= -1e-3 and steps.max() <= 62 + 1e-3 and (zero_point == 31).all()


def test_every_group_of_a_token_has_a_grid_of_its_own(louder, stats):
    size = stats.samples["blocks.0.fc1"].shape[-1] // 2
    config = QuantConfig(activation_granularity="per_token", activation_symmetric=True, activation_group_size=size)
    one = layer_operands(louder.transformer, stats, "blocks.0.fc1", config, "none")
    scale, zero_point = one.input_grid
    assert scale.shape == zero_point.shape == (*one.input.shape[:2], 2)


def test_channel_errors_are_those_of_the_outer_products(louder, stats):
    layer = "blocks.1.proj"
    plain, balanced = (layer_operands(louder.transformer, stats, layer, CONFIG, v) for v in ("none", "csb"))
    errors = channel_errors(plain, balanced)
    rows, rounded = plain.input.flatten(0, 1), balanced.rounded_input.flatten(0, 1)
    total = (rows @ plain.weight.T).square().sum()
    for j in (0, 3):
        wrong = torch.outer(rounded[:, j], balanced.rounded_weight[:, j]) - torch.outer(rows[:, j], plain.weight[:, j])
        assert float(errors[j]) == pytest.approx(float(wrong.square().sum() / total), rel=1e-3)


def test_a_channel_left_in_float_has_no_error(louder, stats):
    config = QuantConfig(weight_bits=16, activation_bits=16)
    plain = layer_operands(louder.transformer, stats, "blocks.0.qkv", config, "none")
    assert plain.input_grid is None and plain.weight_grid is None
    assert float(channel_errors(plain, plain).max()) < 1e-10
