"""Transformers of every family on integers: against their simulated twin, and every quantized linear in the graph."""

import copy
import dataclasses

import pytest
import torch

from ptq4dit.backends import openvino as backend
from ptq4dit.backends import tracing
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.products import linear_precisions
from ptq4dit.quantized.linear import QuantizedLinear
from tests.ptq4dit.backends.tiny_quantized import tiny_quantized
from tests.ptq4dit.model.tiny_models import ONE_EACH, TINY

BOUND = 0.02
"""Relative difference that flips of single roundings stay below."""
SETTINGS = {"W8A8": {"weight_symmetric": True}, "W4A8": {"weight_bits": 4}}


def leaves(output):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def difference(mine, right):
    pairs = zip(leaves(mine), leaves(right), strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return IntegerOptions(cache=tmp_path_factory.mktemp("compiled"), threads=1)


@pytest.fixture(scope="module")
def sd3(options):
    twin, call, _ = tiny_quantized("sd3", weight_bits=4)
    return twin, call, backend.build(twin, options)


TRACED = [name for name in TINY if not name.startswith("dit")]
USUAL = set(ONE_EACH) - {"ltx", "cogvideox", "auraflow"}  # of the generic family two
TRIED = [pytest.param(name, "W4A8", marks=() if name in USUAL else pytest.mark.long) for name in TRACED]
TRIED += [("sd3", "W8A8")]
"""Both widths are int8 products in the graph: what differs from family to family is the graph."""


@pytest.mark.parametrize(("name", "bits"), TRIED)
def test_every_family(name, bits, options):
    twin, call, model = tiny_quantized(name, **SETTINGS[bits])
    with torch.no_grad():
        right, exact = call.on(twin), call.on(model)
    integer = backend.build(twin, options)
    assert difference(call.on(integer), right) < BOUND < 20 * difference(right, exact)
    (graph,) = integer.step.graphs
    found = linear_precisions(graph.compiled)
    quantized = [path for path, module in twin.named_modules() if isinstance(module, QuantizedLinear)]
    unused = {path for path in quantized if path not in found}
    assert len(unused) <= 3 and all(found[path] in ("u8", "i8") for path in quantized if path not in unused)
    assert not unused or name == "qwen"  # whose last block's text nobody reads


def rows(call, count):
    """The first rows of every tensor of a call of two rows, or the two of them again and again."""
    indices = torch.arange(count) % 2
    return {
        name: value[indices] if isinstance(value, torch.Tensor) and value.ndim and len(value) == 2 else value
        for name, value in call.kwargs.items()
    }


def test_other_sizes_are_tried_on_the_graph_that_is_there(sd3, options):
    twin, call, _ = sd3
    integer = backend.build(twin, options)
    for count in (2, 1, 3):
        given = rows(call, count)
        given["encoder_hidden_states"] = given["encoder_hidden_states"][:, : 5 - count]
        with torch.no_grad():
            assert difference(integer(**given), twin(**given)) < BOUND
    assert len(integer.step.graphs) == 1


def test_by_position_or_name_with_or_without_defaults_is_one_call(sd3, options):
    twin, call, _ = sd3
    integer = backend.build(twin, options)
    given = {name: value for name, value in call.kwargs.items() if name != "return_dict"}
    latents, text = given.pop("hidden_states"), given.pop("encoder_hidden_states")
    output = integer(latents, text, **given)
    assert type(output) is type(twin(latents, text, **given)) and list(output) == ["sample"]
    (alone,) = integer(hidden_states=latents, encoder_hidden_states=text, **given, return_dict=False)
    assert torch.equal(output.sample, alone) and len(integer.step.graphs) == 1


def test_a_second_process_traces_nothing(sd3, options, monkeypatch):
    twin, call, _ = sd3
    (expected,) = call.on(backend.build(twin, options))

    def refuse(*_):
        raise AssertionError("traced again, or ran the twin")

    monkeypatch.setattr("ptq4dit.backends.traced.trace_graph", refuse)
    again = backend.build(twin, options)
    monkeypatch.setattr(again.step, "_by_twin", refuse)
    assert torch.equal(call.on(again)[0], expected)


def test_values_that_the_forward_reads_are_part_of_the_call(options):
    """Lumina's tokens are cut to the mask's length: another mask is another graph, the same one is not."""
    twin, call, _ = tiny_quantized("lumina2", weight_bits=4)
    integer, given = backend.build(twin, options), dict(call.kwargs)
    for mask, graphs in (([5, 4], 1), ([3, 5], 2), ([5, 4], 2)):
        given["encoder_attention_mask"] = (torch.arange(5) < torch.tensor(mask)[:, None]).long()
        with torch.no_grad():
            assert difference(integer(**given), twin(**given)) < BOUND
        assert len(integer.step.graphs) == graphs


def test_a_mask_that_is_only_added_is_an_input(options):
    twin, call, _ = tiny_quantized("pixart-sigma", weight_bits=4)
    integer, given = backend.build(twin, options), dict(call.kwargs)
    for mask in ([5, 4], [3, 5]):
        given["encoder_attention_mask"] = (torch.arange(5) < torch.tensor(mask)[:, None]).long()
        with torch.no_grad():
            assert difference(integer(**given), twin(**given)) < BOUND
    assert len(integer.step.graphs) == 1


def test_graphs_in_memory_are_bounded(options, monkeypatch):
    monkeypatch.setattr("ptq4dit.backends.traced.KEPT", 1)
    twin, call, _ = tiny_quantized("lumina2", weight_bits=4)
    integer, given = backend.build(twin, options), dict(call.kwargs)
    for mask in ([5, 4], [3, 5]):
        given["encoder_attention_mask"] = (torch.arange(5) < torch.tensor(mask)[:, None]).long()
        integer(**given)
    assert len(integer.step.graphs) == 1


def test_one_number_of_rows_where_that_is_asked_for(sd3, options):
    twin, call, _ = sd3
    integer = backend.build(twin, dataclasses.replace(options, batch=2))
    with torch.no_grad():
        assert difference(call.on(integer), call.on(twin)) < BOUND
    (graph,) = integer.step.graphs
    assert all(port.partial_shape.is_static for port in graph.compiled.inputs)
    with pytest.raises(ValueError, match=r"Expected 2 rows.*got 3.*batch=None"):
        integer(**rows(call, 3))


def test_half_precision_goes_in_and_out(options):
    twin, call, _ = tiny_quantized("sd3", weight_bits=4)
    half = torch.nn.Module.to(copy.deepcopy(twin), torch.bfloat16)
    given = {name: v.bfloat16() if getattr(v, "dtype", None) == torch.float32 else v for name, v in call.kwargs.items()}
    integer = backend.build(half, options)
    (mine,) = integer(**given)
    with torch.no_grad():
        (right,) = half(**given)
    assert mine.dtype == torch.bfloat16 and integer.dtype == torch.bfloat16
    assert difference(mine.float(), right.float()) < 0.05
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_a_graph_of_something_else_is_not_used(sd3, options, monkeypatch, tmp_path):
    twin, call, _ = sd3
    right = tracing.product
    monkeypatch.setattr(tracing, "product", lambda q, layer: right(q, dataclasses.replace(layer, bias=layer.bias + 1)))
    with pytest.raises(ValueError, match=r"simulated model's output, got one that is .* away"):
        call.on(backend.build(twin, dataclasses.replace(options, cache=tmp_path)))
    assert len(list(tmp_path.iterdir())) == 1  # what is known of the call's form


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_bits": 16}, "it has weights in float"),
        (
            {"activation_granularity": "per_token", "activation_group_size": 8},
            "activation_symmetric=False.*larger groups",
        ),
        ({"rank": 2}, "low-rank branch"),
    ],
)
def test_what_no_graph_holds_is_refused_by_name(settings, message, options):
    twin, call, _ = tiny_quantized("sd3", **settings)
    with pytest.raises(ValueError, match=rf"'transformer_blocks\.0\..*{message}"):
        call.on(backend.build(twin, options))


def test_what_cannot_be_given_to_a_graph_is_refused_by_name(sd3, options):
    twin, call, _ = sd3
    integer = backend.build(twin, options)
    with pytest.raises(ValueError, match=r"joint_attention_kwargs\['scale'\].* got a object"):
        integer(**dict(call.kwargs) | {"joint_attention_kwargs": {"scale": object()}})
    with pytest.raises(ValueError, match='precision "auto", "f32" or "bf16", got "mixed"'):
        backend.build(twin, dataclasses.replace(options, precision="mixed"))


def test_a_forward_that_reads_its_timestep_is_refused(options):
    twin, call, _ = tiny_quantized("sd3", weight_bits=4)

    class Early(type(twin)):
        def forward(self, hidden_states, encoder_hidden_states, pooled_projections, timestep, return_dict=True):
            scale = 2.0 if timestep.max() > 500 else 1.0
            return super().forward(hidden_states * scale, encoder_hidden_states, pooled_projections, timestep)

    twin.__class__ = Early
    with pytest.raises(ValueError, match=r"reads the values of 'timestep' in Python"):
        call.on(backend.build(twin, options))
