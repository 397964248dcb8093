"""An integer transformer stands for an object of its stock class: what that can, or one sentence."""

import copy
import pickle

import pytest
import torch
from diffusers import DiTTransformer2DModel, SD3Transformer2DModel

from ptq4dit.backends.dispatch import with_backend
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.model.forward import InTwoParts
from tests.ptq4dit.backends.tiny_quantized import tiny_quantized

STOCK = {"dit": DiTTransformer2DModel, "sd3": SD3Transformer2DModel}


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return IntegerOptions(cache=tmp_path_factory.mktemp("compiled"), threads=1)


@pytest.fixture(scope="module", params=STOCK)
def case(request, options):
    """(name, integer transformer, its call, the float model)."""
    twin, call, model = tiny_quantized(request.param, weight_bits=4, input_factor=False)
    return request.param, with_backend(twin, "integer", options), call, model


def test_it_is_one_of_its_stock_class(case):
    name, integer, _, model = case
    assert isinstance(integer, STOCK[name]) and isinstance(integer, InTwoParts) == (name == "dit")
    assert integer.config == model.config and integer.config.in_channels == 4
    assert integer.dtype == torch.float32 and integer.device.type == "cpu"
    assert integer.num_parameters() == model.num_parameters()
    assert integer.num_parameters(only_trainable=True) == integer.twin.num_parameters(only_trainable=True)
    assert integer.state_dict().keys() == integer.twin.state_dict().keys()
    assert integer.to(torch.float32) is integer and integer.to("cpu") is integer and integer.eval() is integer


def test_copied_and_pickled_it_gives_the_same(case, options, monkeypatch):
    _, integer, call, _ = case
    monkeypatch.setenv("PTQ4DIT_CACHE", str(options.cache))
    (expected,) = call.on(integer)
    for other in (copy.deepcopy(integer), pickle.loads(pickle.dumps(integer))):
        assert type(other) is type(integer) and other.twin is not integer.twin
        assert torch.equal(call.on(other)[0], expected)
        assert other.ptq4dit_record.config == integer.ptq4dit_record.config
    assert integer.ptq4dit_record.config.backend == "integer"


def test_back_to_simulated(case):
    name, integer, call, _ = case
    back = with_backend(integer, "simulated")
    assert type(back) is STOCK[name] and back.ptq4dit_record.config.backend == "simulated"
    with torch.no_grad():
        assert (call.on(back)[0] - call.on(integer)[0]).norm() < 1e-2 * call.on(back)[0].norm()


def test_what_would_change_it_silently_is_refused(case, tmp_path):
    name, integer, _, _ = case
    changes = {
        "trained": lambda: integer.train(),
        "moved from cpu to cuda": lambda: integer.to("cuda"),
        "changed by load_state_dict": lambda: integer.load_state_dict({}),
        "changed by enable_layerwise_casting": lambda: integer.enable_layerwise_casting(),
        "changed by enable_group_offload": lambda: integer.enable_group_offload(torch.device("cpu")),
        "changed by compile": lambda: integer.compile(),
        "changed by load_lora_adapter": lambda: integer.load_lora_adapter({}),
    }
    for words, change in changes.items() if name == "sd3" else list(changes.items())[:-1]:
        with pytest.raises(ValueError, match=rf"to be {words}.*simulated"):
            change()
    with pytest.raises(ValueError, match="save_quantized"):
        integer.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_latents_of_another_shape_are_one_sentence(case):
    name, integer, call, _ = case
    if name == "dit":
        for shape in ((2, 4, 16, 16), (2, 3, 8, 8)):
            with pytest.raises(ValueError, match=r"Expected latents of shape .*, got \(2, [^\n]*$"):
                integer(**dict(call.kwargs) | {"hidden_states": torch.zeros(shape)})


def test_arguments_of_the_attention_are_refused(case):
    name, integer, call, _ = case
    if name == "dit":
        with pytest.raises(ValueError, match=r"given cross_attention_kwargs \['scale'\]"):
            integer(**dict(call.kwargs) | {"cross_attention_kwargs": {"scale": 0.5}})
        with pytest.raises(ValueError, match="Expected timestep and class_labels"):
            integer(call.kwargs["hidden_states"])


def test_a_dit_with_affine_norms_is_right(options):
    """A gain and a bias of norm3 are part of the graph."""
    twin, call, _ = tiny_quantized("dit, affine norms", weight_bits=4, input_factor=False)
    integer = with_backend(twin, "integer", options)
    with torch.no_grad():
        (right,) = call.on(twin)
    assert isinstance(integer, InTwoParts)
    assert (call.on(integer)[0] - right).norm() < 1e-3 * right.norm()


def test_a_dit_with_another_forward_is_traced(options):
    twin, call, _ = tiny_quantized("dit", weight_bits=4)

    class Doubled(DiTTransformer2DModel):
        def forward(self, hidden_states, timestep, class_labels, return_dict=True):
            return super().forward(2 * hidden_states, timestep, class_labels, return_dict=return_dict)

    twin.__class__ = Doubled
    integer = with_backend(twin, "integer", options)
    with torch.no_grad():
        (right,) = call.on(twin)
    assert not isinstance(integer, InTwoParts) and (call.on(integer)[0] - right).norm() < 1e-2 * right.norm()
