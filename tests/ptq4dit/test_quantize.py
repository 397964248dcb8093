import dataclasses

import pytest
import torch
from torch import nn

from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import LayerConfig, QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.model.layers import balanced_layers, get_layer
from ptq4dit.numerics.affine import AffineSpec, affine_from_range, dequantize
from ptq4dit.paper.csb import balance_factors
from ptq4dit.paper.salience import channel_salience
from ptq4dit.paper.ssc import calibrated_salience
from ptq4dit.quantized.balance import layer_factor, model_factors
from ptq4dit.quantized.convert import convert, describe
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.sampling.denoise import generate

CALIBRATION = CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=5, rows_per_timestep=8)
FLOAT = QuantConfig(weight_bits=16, activation_bits=16)


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CALIBRATION)


@torch.no_grad()
def predicted(model):
    """What a model foresees of two fixed noisy inputs."""
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return model.transformer(x, timestep=torch.tensor([400, 400]), class_labels=torch.tensor([0, 3])).sample


def quantized_linears(model):
    return {name: m for name, m in model.transformer.named_modules() if isinstance(m, QuantizedLinear)}


def test_every_block_linear_and_nothing_else_is_replaced(dit, stats):
    model = quantize(dit, stats, QuantConfig(weight_bits=4))
    paths = [path for layer in balanced_layers(dit.transformer).values() for path in layer.paths]
    assert sorted(quantized_linears(model)) == sorted(paths) and len(paths) == 12
    assert type(model.transformer) is type(dit.transformer) and model.vae is dit.vae
    others = {n for n, m in dit.transformer.named_modules() if isinstance(m, nn.Linear)} - set(paths)
    assert all(isinstance(model.transformer.get_submodule(name), nn.Linear) for name in others)


def test_float_bits_change_nothing_but_rounding_errors(make_dit):
    dit = make_dit(dtype=torch.float64)
    stats = calibrate(dit, CALIBRATION)
    expected = generate(dit, [1, 3], steps=3)
    actual = generate(quantize(dit, stats, FLOAT), [1, 3], steps=3)
    assert (actual - expected).abs().max() < 1e-9


def test_more_bits_are_closer(dit, stats):
    expected = generate(dit, [1], steps=3)
    errors = [
        float((generate(quantize(dit, stats, config), [1], steps=3) - expected).square().mean())
        for config in (QuantConfig(weight_bits=b, activation_bits=b) for b in (3, 5, 8))
    ]
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0


# Every pair of settings occurs in one of them; with each, how far its prediction may be from full precision's.
CONFIGS = [
    (8, 8, False, False, "minmax", "minmax", 0.15),
    (8, 8, True, True, "mse", "mse", 0.15),
    (4, 8, True, False, "mse", "minmax", 0.2),
    (4, 8, True, True, "minmax", "mse", 0.2),
    (2, 3, False, False, "mse", "mse", 0.8),
    (2, 3, True, True, "minmax", "minmax", 0.8),
    (4, 16, False, False, "mse", "mse", 0.15),
    (4, 16, True, True, "minmax", "minmax", 0.15),
    (16, 6, True, False, "minmax", "mse", 0.2),
    (16, 6, True, True, "mse", "minmax", 0.2),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_errs_as_its_bits_let_expect(dit, stats, config):
    weight_bits, activation_bits, csb, ssc, weight_range, activation_range, bound = config
    config = QuantConfig(
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        csb=csb,
        ssc=ssc,
        weight_range=weight_range,
        activation_range=activation_range,
    )
    quantized = quantize(dit, stats, config)
    expected, actual = (predicted(model) for model in (dit, quantized))
    error = float((actual - expected).norm() / expected.norm())
    assert 0.01 < error < bound


def test_linear_equals_eq_2_written_out():
    linear = nn.Linear(7, 5)
    config = LayerConfig(weight_bits=4, activation_bits=6, weight_range="minmax")
    low, high = torch.tensor(-2.0), torch.tensor(1.5)
    quantized, x = QuantizedLinear.from_float(linear, config, (low, high)), torch.randn(3, 4, 7)
    scale, zero_point = affine_from_range(low, high, AffineSpec(bits=6))
    x_q = (torch.round(x * (1 / scale)) + zero_point).clamp(0, 63)
    w = (quantized.weight_q.float() - quantized.weight_zero_point) * quantized.weight_scale
    expected = (x_q - zero_point) * scale @ w.T + linear.bias
    torch.testing.assert_close(quantized(x), expected)
    assert int(quantized.weight_q.max()) == 15 and int(quantized.weight_q.min()) == 0
    assert ((w - linear.weight).abs() <= quantized.weight_scale).all()


def test_saved_state_is_the_integers(dit, stats):
    layer = next(iter(quantized_linears(quantize(dit, stats, QuantConfig(weight_bits=4))).values()))
    assert set(layer.state_dict()) == {
        "weight_q",
        "weight_scale",
        "weight_zero_point",
        "activation_scale",
        "activation_zero_point",
        "bias",
    }
    assert layer.weight_q.dtype == torch.uint8 and int(layer.weight_q.max()) <= 15
    assert torch.equal(layer.weight, dequantize(layer.weight_q, layer.weight_scale, layer.weight_zero_point))


def test_q_k_v_share_one_activation_quantizer(dit, stats):
    attention = quantize(dit, stats).transformer.transformer_blocks[0].attn1
    scales = {float(linear.activation_scale) for linear in (attention.to_q, attention.to_k, attention.to_v)}
    assert len(scales) == 1


def test_static_range_covers_all_timesteps_after_balancing(dit, stats):
    model = quantize(dit, stats, QuantConfig(activation_bits=8))
    factors = model_factors(stats, balanced_layers(dit.transformer), QuantConfig())
    for name, layer in balanced_layers(dit.transformer).items():
        linear = model.transformer.get_submodule(layer.paths[0])
        b_x = factors.get(name, torch.ones(layer.in_features))
        low, high = (stats.activation_min[name] * b_x).min(), (stats.activation_max[name] * b_x).max()
        scale = float((high.clamp(min=0) - low.clamp(max=0)) / 255)
        assert float(linear.activation_scale) == pytest.approx(scale, rel=1e-5)


def test_balanced_salience_is_the_geometric_mean(dit, stats):
    """After folding with one timestep's salience, activation and weight salience of fc1 agree there (eq. 12)."""
    config = dataclasses.replace(FLOAT, ssc=False)
    model = quantize(dit, stats, config)
    b_x = layer_factor(stats, get_layer(dit.transformer, "blocks.1.fc1"), csb=True, ssc=False)
    folded = model.transformer.get_submodule("transformer_blocks.1.ff.net.0.proj").weight
    middle = stats.activation_salience["blocks.1.fc1"][1] * b_x
    torch.testing.assert_close(channel_salience(folded), middle)


def test_factors(dit, stats):
    layers = balanced_layers(dit.transformer)
    assert model_factors(stats, layers, QuantConfig(csb=False, ssc=False)) == {}
    with_ssc, without = (model_factors(stats, layers, QuantConfig(ssc=ssc)) for ssc in (True, False))
    assert list(with_ssc) == list(without) == [name for name in stats.layers if not name.endswith("fc2")]
    assert all(not torch.equal(with_ssc[name], without[name]) for name in with_ssc)
    assert torch.equal(layer_factor(stats, layers["blocks.0.fc2"], csb=True, ssc=True), torch.ones(64))


def test_fc2_is_balanced_as_its_input_is_rounded(dit, stats):
    """A factor for every channel is one scale for every channel: torch's per-channel quantizer, and CSB's columns."""
    config = QuantConfig(weight_bits=16, balance_fc2=True)
    model = quantize(dit, stats, config)
    like, linear = (m.transformer.transformer_blocks[1].ff.net[2] for m in (dit, model))
    name = "blocks.1.fc2"
    way = stats.activation_salience[name], stats.weight_salience[name]
    b_x, b_w = balance_factors(calibrated_salience(*way), way[1])
    torch.testing.assert_close(linear.input_factor, b_x)
    torch.testing.assert_close(linear.weight, like.weight.detach() * b_w)
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    scale, zero_point = linear.activation_scale / b_x, linear.activation_zero_point.expand(64)
    rounded = torch.fake_quantize_per_channel_affine(x, scale, zero_point, 1, 0, 255)
    expected = torch.nn.functional.linear(rounded, like.weight, like.bias)
    torch.testing.assert_close(linear(x), expected, rtol=1e-4, atol=1e-5)


def test_balancing_fc2_changes_nothing_in_full_precision(make_dit):
    dit = make_dit(dtype=torch.float64)
    stats = calibrate(dit, CALIBRATION)
    model = quantize(dit, stats, QuantConfig(weight_bits=16, activation_bits=16, balance_fc2=True))
    x, t, y = torch.randn(2, 4, 8, 8, dtype=torch.float64), torch.tensor([3, 900]), torch.tensor([0, 1])
    expected, found = (m.transformer(x, timestep=t, class_labels=y).sample for m in (dit, model))
    assert (model.transformer.transformer_blocks[0].ff.net[2].input_factor != 1).any()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_factors_of_fc2_need_its_switch(dit, stats):
    factors = {"blocks.0.fc2": torch.full((64,), 2.0)}
    with pytest.raises(ValueError, match=r"'blocks\.0\.fc2'.*balance_fc2=True"):
        convert(dit, stats, QuantConfig(), factors)
    assert convert(dit, stats, QuantConfig(balance_fc2=True), factors) is not None


def test_inputs_are_left_alone(dit, stats):
    state = {key: value.clone() for key, value in dit.transformer.state_dict().items()}
    salience = {name: value.clone() for name, value in stats.activation_salience.items()}
    quantize(dit, stats, QuantConfig(weight_bits=4))
    assert all(torch.equal(value, state[key]) for key, value in dit.transformer.state_dict().items())
    assert all(torch.equal(value, salience[name]) for name, value in stats.activation_salience.items())
    assert not hasattr(dit.transformer, "ptq4dit_record")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models(make_dit, dtype):
    """Ranges and scales are kept in float32; only the products are in half precision."""
    half = make_dit(dtype=dtype)
    stats = calibrate(half, CALIBRATION)
    model = quantize(half, stats)
    linear = model.transformer.transformer_blocks[0].ff.net[2]
    assert stats.activation_max["blocks.0.fc2"].dtype == linear.weight_scale.dtype == torch.float32
    assert linear.weight.dtype == dtype and linear.activation_scale.dtype == torch.float32
    image = generate(model, [0], steps=3)
    assert image.dtype == dtype and torch.isfinite(image).all()


def test_describe(dit, stats):
    import json

    config = QuantConfig(weight_bits=4)
    text = json.loads(json.dumps(describe(quantize(dit, stats, config))))
    assert text["label"] == "W4A8" and text["backend"] == "simulated" and text["model"] == stats.model
    assert QuantConfig(**text["config"]) == config and CalibrationConfig(**text["calibration"]) == CALIBRATION
    assert describe(dit)["quantized"] is False


def test_refuses_wrong_inputs(dit, stats, make_dit):
    with pytest.raises(ValueError, match="Expected the model that was calibrated"):
        quantize(make_dit(seed=4), stats)
    with pytest.raises(ValueError, match="quantized already"):
        quantize(quantize(dit, stats), stats)


def test_dead_channels_are_harmless(make_dit):
    """Channels that are always zero, in the activation or in the weight, get factor 1 and no nan."""
    dit = make_dit()
    block = dit.transformer.transformer_blocks[0]
    with torch.no_grad():
        for rows in (0, 16):
            block.norm1.linear.weight[rows : rows + 2] = 0
            block.norm1.linear.bias[rows : rows + 2] = -1.0 if rows else 0.0
        block.ff.net[0].proj.weight[:, 3] = 0
    stats = calibrate(dit, CALIBRATION)
    assert stats.activation_salience["blocks.0.qkv"][:, :2].abs().max() < 1e-6
    factor = layer_factor(stats, get_layer(dit.transformer, "blocks.0.fc1"), csb=True, ssc=True)
    assert factor[3] == 1
    assert torch.isfinite(generate(quantize(dit, stats, QuantConfig(weight_bits=4)), [0], steps=2)).all()
