"""Linears whose input gets its scale at run time: the reference, OpenVINO's products, the types that weights have."""

import numpy as np
import openvino
import pytest
import torch
from openvino import opset15
from torch import nn

from ptq4dit.backends.openvino_layers import layer_product, product, rounded
from ptq4dit.backends.openvino_token import native_weight
from ptq4dit.backends.products import linear_precisions
from ptq4dit.backends.reference import token_integers, token_linear
from ptq4dit.backends.token_linear import token_linear_of
from ptq4dit.backends.token_route import GROUP_PROPERTY, Kind, verdict
from ptq4dit.config.quantization import LayerConfig
from ptq4dit.quantized.linear import QuantizedLinear

NAME = "blocks.0.fc1"
F32 = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
CASES = {
    "tokens": {},
    "symmetric": {"activation_symmetric": True, "weight_symmetric": True},
    "4 bits": {"weight_bits": 4, "activation_symmetric": True},
    "3 bits, fewer for inputs": {"weight_bits": 3, "activation_bits": 5},
    "2 bits of 4": {"weight_bits": 2, "weight_symmetric": True, "activation_bits": 4, "activation_symmetric": True},
    "groups": {"activation_group_size": 64, "activation_symmetric": True, "weight_bits": 4},
    "groups of both": {"activation_group_size": 32, "group_size": 64, "weight_bits": 4},
    "groups of weights": {"group_size": 64, "activation_symmetric": True},
    "factor": {"input_factor": True, "weight_bits": 4},
}


def layer_of(d_in=192, d_out=40, seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(d_in, d_out)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(d_out, d_in, generator=generator) + torch.linspace(-1, 1, d_out)[:, None])
        linear.bias.copy_(torch.randn(d_out, generator=generator))
    config = LayerConfig(activation_granularity="per_token", weight_range="minmax", **settings)
    factor = torch.rand(d_in, generator=generator) + 0.5 if config.input_factor else None
    return QuantizedLinear.from_float(linear, config, None, factor=factor)


def tokens_of(d_in=192, rows=33, seed=1):
    """Tokens of very different size, one of them all zeros, one positive, one negative."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, rows, d_in, generator=generator) * 10 ** torch.empty(2, rows, 1).uniform_(
        -3, 3, generator=generator
    )
    x[0, 0], x[0, 1], x[1, 2] = 0.0, x[0, 1].abs(), -x[1, 2].abs()
    return x


def by_openvino(layer, x, **properties):
    parameter = opset15.parameter([-1, -1, x.shape[-1]], np.float32)
    graph = openvino.Model([layer_product(parameter, layer)], [parameter])
    compiled = openvino.Core().compile_model(graph, "CPU", F32 | properties)
    return torch.from_numpy(compiled([x.numpy()])[0]), linear_precisions(compiled)


def away(mine, right):
    """Each token's relative difference: they differ in size by orders of magnitude."""
    return (mine - right).norm(dim=-1) / right.norm(dim=-1)


@pytest.mark.parametrize("case", CASES)
def test_the_reference_is_the_simulated_layer(case):
    layer, x = layer_of(**CASES[case]), tokens_of()
    with torch.no_grad():
        simulated = layer(x)
    assert away(token_linear(x, token_linear_of(NAME, [layer])), simulated).max() < 1e-5


def test_a_symmetric_token_reaches_127_and_no_further():
    """``s = max|x| / 127``, worked by hand; 4 bits reach 7."""
    layer = token_linear_of(NAME, [layer_of(d_in=4, activation_symmetric=True)])
    steps, scale = token_integers(torch.tensor([[-2.54, 1.27, 0.0, 0.011]]), layer)
    assert steps.tolist() == [[[-127, 63, 0, 1]]] or steps.tolist() == [[[-127, 64, 0, 1]]]
    torch.testing.assert_close(scale, torch.tensor([[[0.02]]]))
    narrow = token_linear_of(NAME, [layer_of(d_in=4, activation_symmetric=True, activation_bits=4)])
    assert token_integers(torch.tensor([[-2.8, 1.6, 0.0, 2.8]]), narrow)[0].tolist() == [[[-7, 4, 0, 7]]]


@pytest.mark.parametrize("case", CASES)
def test_written_out_it_multiplies_integers_and_is_the_simulated_layer(case):
    """Whatever the processor: a static grid's kernels do it. Single roundings may fall the other way."""
    layer, x = layer_of(**CASES[case]), tokens_of()
    with torch.no_grad():
        simulated, unrounded = layer(x), nn.functional.linear(layer.prepare_input(x), layer.weight, layer.bias)
    mine, precisions = by_openvino(token_linear_of(NAME, [layer]), x)
    assert precisions[NAME] in ("u8", "i8")
    flips, rounding = away(mine, simulated), away(unrounded, simulated)
    assert flips.median() < 1e-5 and flips.max() < 0.5 * rounding.max()
    torch.testing.assert_close(mine[0, 0], layer.bias)


def test_linears_that_read_one_input_share_its_rounding():
    layers = [token_linear_of(name, [layer_of(seed=seed)]) for name, seed in (("q", 0), ("k", 1))]
    assert layers[0].rounding == layers[1].rounding
    assert layers[0].rounding != token_linear_of("v", [layer_of(activation_symmetric=True)]).rounding
    parameter, x = opset15.parameter([-1, -1, 192], np.float32), tokens_of()
    once = rounded(parameter, layers[0])
    graph = openvino.Model([product(once, layer) for layer in layers], [parameter])
    outputs = openvino.Core().compile_model(graph, "CPU", F32)([x.numpy()])
    for index, layer in enumerate(layers):
        assert away(torch.from_numpy(outputs[index]), token_linear(x, layer)).median() < 1e-5


def test_rows_of_a_layer_are_scaled_rows():
    layer, x = token_linear_of(NAME, [layer_of(weight_bits=4, group_size=64)]), tokens_of()
    part = token_linear(x, layer.rows(8, 20, 0.25))
    torch.testing.assert_close(part, 0.25 * token_linear(x, layer)[..., 8:20])


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("bits", "width"), [(2, 4), (3, 4), (4, 4), (5, 8), (8, 8)])
def test_native_weights_have_the_smallest_type_that_holds_them(bits, width, symmetric):
    module = layer_of(weight_bits=bits, weight_symmetric=symmetric, group_size=64, activation_symmetric=True)
    layer = token_linear_of(NAME, [module], native=True)
    kind = f"{'i' if symmetric else 'u'}{width}"
    assert layer.native_type == kind
    node = native_weight(layer)
    graph = openvino.Model([opset15.multiply(node, np.float32(1))], [])
    constants = [op for op in graph.get_ordered_ops() if op.get_type_name() == "Constant"]
    wide = [op for op in constants if op.get_output_size() and np.prod(op.get_output_shape(0)) == 192 * 40]
    assert [op.get_element_type().get_type_name() for op in wide] == [kind]
    assert wide[0].get_byte_size() == 192 * 40 * width // 8
    compiled = openvino.Core().compile_model(graph, "CPU", F32)
    torch.testing.assert_close(torch.from_numpy(compiled([])[0]), module.weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_native_weights_stay_small_in_a_compiled_graph(bits):
    layer = token_linear_of(NAME, [layer_of(512, 512, weight_bits=bits, activation_symmetric=True)], native=True)
    parameter = opset15.parameter([-1, -1, 512], np.float32)
    graph = openvino.Model([layer_product(parameter, layer)], [parameter])
    compiled = openvino.Core().compile_model(graph, "CPU", F32 | {GROUP_PROPERTY: 512})
    assert linear_precisions(compiled)[NAME] == f"u{bits}"
    assert len(compiled.export_model().getbuffer()) < 512 * 512 * bits / 8 + 50_000


def test_a_group_of_zeros_with_a_tiny_scale_stays_zero():
    module = layer_of(activation_symmetric=True)
    with torch.no_grad():
        module.weight_q[3] = int(module.weight_zero_point[3])
        module.weight_scale[3] = torch.finfo(torch.float32).tiny
    for native in (False, True):
        mine, _ = by_openvino(token_linear_of(NAME, [module], native=native), tokens_of())
        torch.testing.assert_close(mine[..., 3], module.bias[3].expand(2, 33))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "activation_symmetric=False"),
        ({"activation_symmetric": True, "activation_bits": 6}, "activation_bits=6"),
        ({"activation_symmetric": True, "activation_group_size": 24}, "groups of 24 channels, no multiple of 16"),
        ({"activation_symmetric": True, "activation_group_size": 64, "group_size": 32}, "group_size=32"),
        ({"activation_symmetric": True, "group_size": 64}, "group_size=64, which groups of 192"),
        ({"activation_symmetric": True, "activation_group_size": 64, "group_size": 64}, None),
        ({"activation_symmetric": True, "activation_group_size": 64}, None),
    ],
)
def test_what_the_runtime_cannot_round_itself_is_known_beforehand(settings, why):
    found = token_linear_of(NAME, [layer_of(**settings)]).native_obstacle
    assert found is None if why is None else why in found


@pytest.mark.parametrize("case", ["symmetric", "4 bits", "groups"])
def test_native_is_bit_close_where_the_processor_can(case):
    layer, x = layer_of(**CASES[case]), tokens_of()
    group = layer.config.activation_group_size or 192
    kind = Kind(config=layer.config, d_in=192, d_out=40)
    if verdict(kind, True, frozenset((F32 | {GROUP_PROPERTY: group}).items())) != "integers":
        pytest.skip("OpenVINO rounds no inputs on this processor: it has no VNNI")
    mine, _ = by_openvino(token_linear_of(NAME, [layer], native=True), x, **{GROUP_PROPERTY: group})
    with torch.no_grad():
        simulated = layer(x)
    assert away(mine, simulated)[x.abs().amax(-1) > 0].median() < 1e-5
