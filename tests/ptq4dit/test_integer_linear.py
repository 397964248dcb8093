"""OpenVINO's int8 linears against the integer reference: shapes, bits, zero points, extremes, channels of zeros."""

import random

import numpy as np
import openvino
import pytest
import torch
from openvino import opset15
from torch import nn

from ptq4dit.backends.integer_linear import integer_linear_of
from ptq4dit.backends.openvino_linear import floats, integer_product, product, products_saturate
from ptq4dit.backends.openvino_linear import rounded as rounded_node
from ptq4dit.backends.products import linear_precisions, require_integer_products
from ptq4dit.backends.reference import integer_linear
from ptq4dit.config.quantization import LayerConfig
from ptq4dit.numerics.affine import dequantize
from ptq4dit.quantized.linear import QuantizedLinear

NAME = "blocks.0.fc1"


def layer_of(d_in, d_out, seed, low=-2.0, high=3.0, bias=True, factor=None, **settings):
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(d_in, d_out, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(
            torch.randn(linear.weight.shape, generator=generator) + torch.linspace(-1, 1, d_out)[:, None]
        )
    config = LayerConfig(**({"weight_range": "minmax"} | settings))
    return QuantizedLinear.from_float(linear, config, (torch.tensor(low), torch.tensor(high)), factor=factor)


def grid_values(layer, rows, seed):
    """Prepared inputs on the grid, all of whose integers occur, so that no rounding can fall either way."""
    bits, generator = layer.config.activation_bits, torch.Generator().manual_seed(seed)
    q = torch.randint(0, 2**bits, (rows, layer.in_features), generator=generator)
    q[0, 0], q[-1, -1] = 0, 2**bits - 1
    described = integer_linear_of(NAME, [layer])
    return dequantize(q, described.activation_scale, described.activation_zero_point)


def by_reference(layer, x):
    return integer_linear(x, integer_linear_of(NAME, [layer]))


def by_openvino(layer, x):
    parameter = opset15.parameter([-1, layer.in_features], np.float32)
    graph = openvino.Model([integer_product(parameter, integer_linear_of(NAME, [layer]))], [parameter])
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert linear_precisions(compiled)[NAME] in ("u8", "i8")
    return torch.from_numpy(compiled([x.numpy()])[0])


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6 * float(expected.abs().max()))


def random_case(seed):
    draw = random.Random(seed)
    settings = {
        "weight_bits": draw.choice([2, 4, 8]),
        "activation_bits": draw.choice([4, 8, 8]),
        "weight_symmetric": draw.random() < 0.5,
        "activation_symmetric": draw.random() < 0.3,
    }
    low, high = -draw.choice([0.0, 1e-3, 2.0, 1e4]), draw.choice([0.0, 1e-3, 2.0, 1e4])
    return draw.randint(1, 90), draw.randint(2, 200), draw.randint(1, 150), low, high, settings


@pytest.mark.parametrize("seed", range(16))
def test_equals_the_reference(seed):
    rows, d_in, d_out, low, high, settings = random_case(seed)
    layer = layer_of(d_in, d_out, seed, low, high, bias=seed % 3 > 0, **settings)
    x = grid_values(layer, rows, seed)
    assert_same(by_openvino(layer, x), by_reference(layer, x))


@pytest.mark.parametrize("bits", [6, 8])
def test_a_factor_for_every_channel_is_that_of_the_input(bits):
    factor = 2.0 ** torch.randint(-3, 4, (48,), generator=torch.Generator().manual_seed(1))
    layer = layer_of(48, 24, seed=5, factor=factor, input_factor=True, activation_bits=bits)
    x = grid_values(layer, 33, seed=2) / factor
    assert_same(by_openvino(layer, x), by_reference(layer, x))


@pytest.mark.parametrize("bits", [6, 8])
def test_a_factor_stays_where_something_else_reads_the_input(bits):
    generator = torch.Generator().manual_seed(1)
    factor, before = 2.0 ** torch.randint(-3, 4, (24,), generator=generator), torch.eye(24)
    layer = layer_of(24, 24, seed=5, factor=factor, input_factor=True, activation_bits=bits)
    described, x = integer_linear_of(NAME, [layer]), grid_values(layer, 10, seed=2) / factor
    parameter = opset15.parameter([-1, 24], np.float32)
    made = opset15.matmul(parameter, floats(before), False, True)
    other = opset15.matmul(made, floats(layer.weight), False, True)
    graph = openvino.Model([product(rounded_node(made, described, alone=False), described), other], [parameter])
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert linear_precisions(compiled)[NAME] in ("u8", "i8")
    assert_same(torch.from_numpy(compiled([x.numpy()])[0]), by_reference(layer, x))


@pytest.mark.parametrize("bits", [4, 8])
def test_extreme_integers_and_channels_of_zeros(bits):
    layer = layer_of(64, 16, seed=3, weight_bits=bits)
    with torch.no_grad():
        layer.weight_q[0], layer.weight_q[1] = 0, 2**bits - 1
        layer.weight_zero_point[2], layer.weight_q[2] = 0, 2**bits - 1
        layer.weight_zero_point[3], layer.weight_q[3] = 2**bits - 1, 0
        layer.weight_q[4] = int(layer.weight_zero_point[4])
        layer.weight_scale[4] = torch.finfo(torch.float32).tiny
    x = grid_values(layer, 33, seed=1)
    x[1], x[2] = x.max(), x.min()
    actual = by_openvino(layer, x)
    assert_same(actual, by_reference(layer, x))
    torch.testing.assert_close(actual[:, 4], layer.bias[4].expand(33))


def test_values_beyond_the_range_are_clamped():
    for bits in (5, 8):
        layer = layer_of(32, 8, seed=0, activation_bits=bits)
        x = torch.tensor([[1e6], [-1e6]]).expand(2, 32).contiguous()
        assert_same(by_openvino(layer, x), by_reference(layer, x))


@pytest.mark.parametrize("saturates", [False, True])
def test_weights_in_halves_are_exact_on_every_processor(monkeypatch, saturates):
    """Halves never overflow 16 bits; the whole weight is exact where this processor adds in 32."""
    layer = layer_of(64, 16, seed=3)
    with torch.no_grad():
        layer.weight_q[0], layer.weight_q[1], layer.weight_zero_point[:2] = 255, 0, 128
    x = grid_values(layer, 33, seed=1)
    x[1] = x.max()
    whole = integer_linear_of(NAME, [layer])
    narrow = integer_linear_of(NAME, [layer_of(64, 16, seed=3, weight_bits=4)])
    assert whole.overflows_16_bits and not narrow.overflows_16_bits
    monkeypatch.setattr("ptq4dit.backends.openvino_linear.products_saturate", lambda: saturates)
    exact = torch.allclose(by_openvino(layer, x), by_reference(layer, x), rtol=1e-4, atol=1e-3)
    assert exact == (saturates or not products_saturate())


def test_an_input_of_zeros_gives_the_bias():
    layer = layer_of(32, 8, seed=0, low=0.0, high=0.0)
    torch.testing.assert_close(by_openvino(layer, torch.zeros(3, 32)), layer.bias.expand(3, 8))


@pytest.mark.parametrize("wrong", ["weight_zero_point", "activation_zero_point", "weight_scale", "activation_scale"])
def test_a_wrong_scale_or_zero_point_would_be_seen(wrong):
    layer = layer_of(48, 16, seed=3)
    x = grid_values(layer, 33, seed=0)
    right = by_reference(layer, x)
    with torch.no_grad():
        getattr(layer, wrong).mul_(2) if "scale" in wrong else getattr(layer, wrong).add_(1)
    with pytest.raises(AssertionError):
        assert_same(by_openvino(layer, x), right)


def test_reference_equals_exact_arithmetic():
    layer = layer_of(300, 7, seed=1)
    x = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    rounded = layer.round_input(x).double()
    expected = rounded @ layer.weight.double().T + layer.bias.double()
    torch.testing.assert_close(by_reference(layer, x).double(), expected, rtol=1e-6, atol=1e-5)


def test_rows_of_a_layer_times_a_factor():
    layer = layer_of(40, 12, seed=2, weight_bits=8, weight_symmetric=False)
    whole = integer_linear_of("blocks.0.qkv", [layer])
    part = whole.rows(4, 9, 0.25)
    torch.testing.assert_close(part.offset, 0.25 * whole.offset[4:9])
    torch.testing.assert_close(part.combined_scale, 0.25 * whole.combined_scale[4:9])
    assert torch.equal(part.weight, whole.weight[4:9]) and torch.equal(part.correction, whole.correction[4:9])


def test_refuses_a_graph_that_multiplies_in_float():
    with pytest.raises(ValueError, match=r"'blocks.0.proj' to multiply 8-bit integers, got f32.*simulated"):
        require_integer_products({"blocks.0.qkv": "u8", "blocks.0.proj": "f32"}, ["blocks.0.qkv", "blocks.0.proj"])
    with pytest.raises(ValueError, match=r"'blocks.1.qkv' .* got no product"):
        require_integer_products({"blocks.0.qkv": "i8"}, ["blocks.0.qkv", "blocks.1.qkv"])
