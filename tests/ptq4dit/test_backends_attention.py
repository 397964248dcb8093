"""Attention on integers: the simulated twin's numbers up to rounding flips, products of bytes, or refused by name."""

import dataclasses

import numpy as np
import openvino
import pytest
import torch
from openvino import opset15 as op
from torch import nn

from ptq4dit.backends import openvino_attention
from ptq4dit.backends.cuda import require_float_attention
from ptq4dit.backends.dispatch import with_backend
from ptq4dit.backends.openvino_attention import _on_grid, attention_grids, require_integer_attention
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.calibration.run import calibrate
from ptq4dit.checkpoint.packed import load_quantized, save_quantized
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import LayerConfig, Override, QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.metrics.tensor import relative_error
from ptq4dit.quantized.attention import QuantizedAttnProcessor

BOUND = 1e-4
"""As in `test_backends`: squared relative error that flips stay below; a wrong grid is far beyond."""
ATTENTION = QuantConfig(backend="integer", weight_bits=4, attention_bits=8, softmax_bits=8)


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=5, rows_per_timestep=8))


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return IntegerOptions(cache=tmp_path_factory.mktemp("compiled"), threads=1)


@pytest.fixture(scope="module")
def twin(dit, stats):
    return quantize(dit, stats, dataclasses.replace(ATTENTION, backend="simulated"))


@pytest.fixture(scope="module", params=["as here", "of bytes", "in float"])
def model(twin, tmp_path_factory, request):
    """By the products of this processor, and by both kinds on any: small inputs lose nothing."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "as here":
            patch.setattr(openvino_attention, "products_saturate", lambda: request.param == "in float")
        options = IntegerOptions(cache=tmp_path_factory.mktemp("compiled"), threads=1)
        yield with_backend(twin, "integer", options)


def output(model):
    x = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.transformer(x, timestep=torch.tensor([900, 500, 20, 3]), class_labels=torch.tensor([0, 5, 2, 5]))


def test_equals_the_simulated_twin_up_to_rounding_flips(twin, model, dit, stats):
    expected = output(twin).sample
    assert relative_error(expected, output(model).sample) < BOUND
    plain = quantize(dit, stats, QuantConfig(weight_bits=4))
    assert not torch.equal(expected, output(plain).sample)  # what is rounded shows


@pytest.mark.parametrize("part", ["q", "k", "v", "softmax"])
def test_the_bound_would_see_one_wrong_grid(part, twin, options):
    wrong = with_backend(twin, "simulated")
    processor = wrong.transformer.transformer_blocks[1].attn1.processor
    setattr(processor, f"{part}_scale", getattr(processor, f"{part}_scale") * 0.25)
    assert relative_error(output(twin).sample, output(with_backend(wrong, "integer", options)).sample) > BOUND / 10


def test_it_says_so_and_is_saved(model, options, tmp_path):
    assert openvino_attention.multiplied() in model.transformer.runtime
    save_quantized(model, tmp_path / "saved")
    again = load_quantized(tmp_path / "saved", options=options)
    assert torch.equal(output(again).sample, output(model).sample)


def test_both_products_are_of_bytes(twin, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_attention, "products_saturate", lambda: False)
    model = with_backend(twin, "integer", IntegerOptions(cache=tmp_path, threads=1))
    names = [f"blocks.{block}.attention" for block in range(2)]
    require_integer_attention(model.transformer.step.compiled, names)
    with pytest.raises(ValueError, match=r"'blocks.7.attention' to multiply 8-bit integers, got no product"):
        require_integer_attention(model.transformer.step.compiled, [*names, "blocks.7.attention"])


def test_a_product_of_floats_is_refused_where_bytes_are_right(monkeypatch):
    given = [op.parameter([-1, 2, 8, 8], np.float32) for _ in range(3)]
    scores = op.matmul(given[0], given[1], False, True)
    mixed = op.matmul(scores, given[2], False, False)
    for node, name in ((scores, "scores"), (mixed, "mixed")):
        node.set_friendly_name(f"blocks.0.attention.{name}")
    compiled = openvino.Core().compile_model(openvino.Model([mixed], given), "CPU")
    monkeypatch.setattr(openvino_attention, "products_saturate", lambda: True)
    require_integer_attention(compiled, ["blocks.0.attention"])
    monkeypatch.setattr(openvino_attention, "products_saturate", lambda: False)
    with pytest.raises(ValueError, match=r"'blocks.0.attention' to multiply 8-bit integers, got .*attention_bits=16"):
        require_integer_attention(compiled, ["blocks.0.attention"])


def test_products_of_extreme_bytes_lose_nothing():
    """Where pairs of products are added in 16 bits they would."""
    q, k = (op.parameter([1, 1, 32, 64], np.float32) for _ in range(2))
    scores = op.matmul(_on_grid(q, 1.0, -128), _on_grid(k, 1.0, -128), False, True)
    soft = op.matmul(_on_grid(q, 1.0, 0), _on_grid(k, 1.0, -128), False, True)
    compiled = openvino.Core().compile_model(openvino.Model([scores, soft], [q, k]), "CPU")
    for first, second in ((-128.0, -128.0), (127.0, -128.0), (255.0, 127.0), (255.0, -128.0)):
        found = compiled([np.full((1, 1, 32, 64), value, np.float32) for value in (first, second)])
        assert (found[0] == min(first, 127.0) * second * 64).all() and (found[1] == max(first, 0.0) * second * 64).all()


def test_the_integer_backend_gets_zero_points_in_the_middle():
    assert (
        ATTENTION.layer("attention").activation_symmetric and not ATTENTION.layer("blocks.0.fc1").activation_symmetric
    )
    assert QuantConfig.from_json(ATTENTION.to_json()) == ATTENTION
    own = Override(pattern="attention", activation_symmetric=False)
    assert QuantConfig(backend="integer", attention_bits=8, overrides=(own,)).overrides == (own,)
    assert not QuantConfig(attention_bits=8).overrides and not QuantConfig(backend="integer").overrides


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({}, {"softmax": "log_sqrt2"}, "a softmax rounded by 'log_sqrt2'"),
        ({"activation_symmetric": False}, {}, "q, k and v with a zero point"),
        ({"activation_granularity": "per_token"}, {}, "per_token.*per_tensor"),
        ({"activation_granularity": "per_timestep_group", "timestep_groups": 2}, {}, "per_timestep_group.*per_tensor"),
    ],
)
def test_refuses_what_no_product_of_bytes_expresses(settings, given, message):
    config = LayerConfig(**({"activation_symmetric": True} | settings))
    processor = QuantizedAttnProcessor(config, attention_bits=8, softmax_bits=8, **given)
    with pytest.raises(ValueError, match=f"'blocks.3.attention'.*{message}"):
        attention_grids("blocks.3.attention", processor)


def test_cuda_refuses_it_by_name(twin):
    with pytest.raises(ValueError, match=r"'transformer_blocks.0.attn1'.*on CUDA.*attention_bits=16"):
        require_float_attention(twin.transformer)
    require_float_attention(nn.Linear(1, 1))
