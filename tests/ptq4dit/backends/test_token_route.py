"""Which way rounds inputs at run time is decided by what comes out: with a runtime that does what it should not."""

import openvino
import pytest
import torch
from torch import nn

from ptq4dit.backends import token_route as route
from ptq4dit.backends.reference import token_linear
from ptq4dit.config.quantization import LayerConfig
from ptq4dit.quantized.linear import QuantizedLinear

F32 = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
GROUPED = {"activation_symmetric": True, "activation_group_size": 64, "weight_bits": 4}


def layers_of(*sizes, **settings):
    config = LayerConfig(**({"activation_granularity": "per_token", "weight_range": "minmax"} | settings))
    return {
        f"layer{index}": QuantizedLinear.from_float(nn.Linear(d_in, d_out), config, None)
        for index, (d_in, d_out) in enumerate(sizes)
    }


def as_asked(layer, x, _):
    return token_linear(x, layer).float()


def in_float(layer, x, _):
    weight = layer.weight_q.unflatten(1, (layer.weight_scale.shape[1], -1)) - layer.weight_zero_point[..., None]
    return nn.functional.linear(x, (weight * layer.weight_scale[..., None]).flatten(1), layer.bias)


def something_else(layer, x, _):
    return token_linear(x, layer.rows(0, layer.weight_q.shape[0], 1.02)).float()


def runtime(monkeypatch, *, native, written_out=as_asked):
    """Pretend that OpenVINO computes these; gives what it was asked."""
    asked = []

    def run_once(layer, x, properties):
        asked.append((layer.native, layer.weight_q.shape, properties))
        return (native if layer.native else written_out)(layer, x, properties)

    route.verdict.cache_clear()
    monkeypatch.setattr(route, "run_once", run_once)
    return asked


@pytest.fixture(autouse=True)
def nothing_remembered():
    yield
    route.verdict.cache_clear()


def test_a_verdict_is_about_whose_output_it_is():
    exact = torch.zeros(2, 8)
    simulated = exact + 0.1
    assert route.judged(simulated + 0.01, simulated, exact) == "integers"
    assert route.judged(exact + 1e-7, simulated, exact) == "float"
    assert route.judged(simulated + 0.2, simulated, exact) == "wrong"
    assert route.judged(exact * torch.nan, simulated, exact) == "wrong"


def test_the_runtime_rounds_where_it_is_seen_to_do_so(monkeypatch):
    asked = runtime(monkeypatch, native=as_asked)
    found = route.token_route(layers_of((192, 40), (64, 40), (192, 40), **GROUPED), F32)
    assert found == route.TokenRoute(native=True, properties={route.GROUP_PROPERTY: 64})
    assert [shape for _, shape, _ in asked] == [(40, 192), (40, 64)]  # one for each kind
    assert all(native and given == F32 | {route.GROUP_PROPERTY: 64} for native, _, given in asked)


@pytest.mark.parametrize("native", [in_float, something_else], ids=["float", "wrong"])
def test_where_the_runtime_does_not_rounding_is_written_out(monkeypatch, native):
    asked = runtime(monkeypatch, native=native)
    assert route.token_route(layers_of((192, 40), **GROUPED), F32) == route.TokenRoute(native=False)
    assert [native for native, _, _ in asked] == [True, False]


def test_groups_of_several_sizes_are_written_out_at_once(monkeypatch):
    """Whole tokens of layers of different widths: the property is one for the whole graph."""
    asked = runtime(monkeypatch, native=as_asked)
    found = route.token_route(layers_of((192, 40), (64, 40), activation_symmetric=True), F32)
    assert found == route.TokenRoute(native=False) and not any(native for native, _, _ in asked)


def test_whole_tokens_of_one_width_may_be_rounded_by_the_runtime(monkeypatch):
    runtime(monkeypatch, native=as_asked)
    found = route.token_route(layers_of((192, 40), (192, 24), activation_symmetric=True), F32)
    assert found is not None and found.properties == {route.GROUP_PROPERTY: 192}


@pytest.mark.parametrize(
    ("wrong", "said"), [(in_float, "in float, its input not rounded"), (something_else, "something else")]
)
def test_a_processor_that_can_do_neither_is_refused_by_name(monkeypatch, wrong, said):
    runtime(monkeypatch, native=wrong, written_out=wrong)
    with pytest.raises(ValueError, match=rf"'layer0'.*{said}.*on this processor \(192 x 40, tried\).*per_tensor"):
        route.token_route(layers_of((192, 40), **GROUPED), F32)


def test_small_groups_are_the_runtimes_alone(monkeypatch):
    small = GROUPED | {"activation_group_size": 32}
    runtime(monkeypatch, native=as_asked)
    found = route.token_route(layers_of((192, 40), **small), F32)
    assert found is not None and found.native
    runtime(monkeypatch, native=in_float)
    with pytest.raises(ValueError, match=r"in float.*6 products of 32 channels in 'layer0'.*larger groups"):
        route.token_route(layers_of((192, 40), **small), F32)


def test_static_inputs_need_no_route():
    ends = torch.tensor(-1.0), torch.tensor(1.0)
    static = {"static": QuantizedLinear.from_float(nn.Linear(8, 8), LayerConfig(), ends), "float": nn.Linear(8, 8)}
    assert route.token_route(static, F32) is None


def test_what_no_way_holds_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'layer0'.*rotation at run time.*rotation=False"):
        route.token_route(layers_of((64, 8), rotation=True), F32)


def test_this_processor_is_asked_and_believed():
    """Whatever it does by itself, written out it multiplies integers; what it does is what its kernels are."""
    layers = layers_of((192, 40), **GROUPED)
    kind = route.Kind(config=layers["layer0"].config, d_in=192, d_out=40)
    native = route.verdict(kind, True, frozenset((F32 | {route.GROUP_PROPERTY: 64}).items()))
    assert native in ("integers", "float")
    if native == "integers":  # no group that fits: the same processor multiplies floats
        assert route.verdict(kind, True, frozenset((F32 | {route.GROUP_PROPERTY: 0}).items())) == "float"
    found = route.token_route(layers, F32)
    assert found is not None and found.native == (native == "integers")
    assert route.verdict(kind, False, frozenset(F32.items())) == "integers"
    assert openvino.__version__
