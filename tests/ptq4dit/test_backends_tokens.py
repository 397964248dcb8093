"""Whole models whose inputs get their scales at run time on the integer backend: against twin and float."""

import pytest
import torch

from ptq4dit.backends import token_route
from ptq4dit.backends.dispatch import with_backend
from ptq4dit.backends.openvino import build
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.products import linear_precisions
from ptq4dit.calibration.run import calibrate
from ptq4dit.checkpoint.packed import load_quantized, save_quantized
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.metrics.tensor import relative_error
from ptq4dit.model.layers import ROLES
from ptq4dit.quantized.linear import QuantizedLinear
from tests.ptq4dit.backends.tiny_quantized import tiny_quantized

BOUND = 1e-4
"""Squared relative error of one forward that flips of single roundings stay below."""
TOKENS = {"activation_granularity": "per_token"}
CONFIGS = {
    "W8A8": QuantConfig(weight_symmetric=True, **TOKENS),
    "W4A8, symmetric": QuantConfig(weight_bits=4, activation_symmetric=True, **TOKENS),
    "W3A6, fc2 balanced": QuantConfig(weight_bits=3, activation_bits=6, balance_fc2=True, **TOKENS),
    "everything": QuantConfig(
        weight_bits=4, modulation=True, conditioning=True, patch_embed=True, final_layer=True, **TOKENS
    ),
}


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return IntegerOptions(cache=tmp_path_factory.mktemp("compiled"), threads=1)


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=5, rows_per_timestep=8))


def output(model):
    x = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        timesteps, labels = torch.tensor([900, 500, 20, 3]), torch.tensor([0, 5, 2, 5])
        return model.transformer(x, timestep=timesteps, class_labels=labels).sample


@pytest.mark.parametrize("name", CONFIGS)
def test_a_dit_is_its_simulated_twin_and_every_product_is_one_of_integers(name, dit, stats, options):
    twin = quantize(dit, stats, CONFIGS[name])
    model = with_backend(twin, "integer", options)
    rounding = relative_error(output(dit), output(twin))
    assert relative_error(output(twin), output(model)) < min(BOUND, 0.5 * rounding)
    assert "inputs with a scale for every token" in model.transformer.runtime
    precisions = linear_precisions(model.transformer.step.compiled)
    wanted = {f"blocks.{block}.{role}" for block in range(2) for role in ROLES}
    assert {precisions[layer] for layer in wanted} <= {"u8", "i8"}


def test_groups_on_a_wider_dit(make_dit, options):
    """Groups of 64 divide every width: one product for three layers, four for fc2."""
    dit = make_dit(attention_head_dim=32)
    stats = calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2, rows_per_timestep=4))
    config = QuantConfig(weight_bits=4, activation_group_size=64, group_size=64, activation_symmetric=True, **TOKENS)
    twin = quantize(dit, stats, config)
    assert relative_error(output(twin), output(with_backend(twin, "integer", options))) < BOUND


def test_written_natively_a_graph_holds_the_same_weights(dit, stats, options, monkeypatch, tmp_path):
    """Where the processor rounds nothing itself, such a graph is the model without rounded inputs."""
    monkeypatch.setattr(
        "ptq4dit.backends.openvino.token_route",
        lambda *_: token_route.TokenRoute(native=True, properties={token_route.GROUP_PROPERTY: 16}),
    )
    config = QuantConfig(weight_bits=4, activation_group_size=16, activation_symmetric=True, **TOKENS)
    twin = quantize(dit, stats, config)
    model = with_backend(twin, "integer", IntegerOptions(cache=tmp_path, threads=1))
    precisions = linear_precisions(model.transformer.step.compiled)
    assert {precisions[f"blocks.{block}.{role}"] for block in range(2) for role in ROLES} == {"u4"}
    assert "by OpenVINO" in model.transformer.runtime
    unrounded = quantize(dit, stats, QuantConfig(weight_bits=4, activation_bits=16))
    nearer = min(relative_error(output(other), output(model)) for other in (twin, unrounded))
    assert nearer < 1e-8 or nearer < BOUND < relative_error(output(unrounded), output(model))


def test_saved_and_loaded_it_runs_as_before(dit, stats, options, tmp_path, monkeypatch):
    monkeypatch.setenv("PTQ4DIT_CACHE", str(options.cache))
    model = quantize(dit, stats, QuantConfig(weight_bits=4, backend="integer", **TOKENS))
    save_quantized(model, tmp_path / "model")
    again = load_quantized(tmp_path / "model")
    assert torch.equal(output(again), output(model)) and "every token" in again.transformer.runtime


@pytest.mark.parametrize("name", ["sd3", "sana"])
def test_other_families(name, options):
    twin, call, model = tiny_quantized(name, weight_bits=4, **TOKENS)
    integer = build(twin, options)
    with torch.no_grad():
        (mine, *_), (right, *_), (exact, *_) = call.on(integer), call.on(twin), call.on(model)
    assert float((mine - right).norm() / right.norm()) < 0.02 < 20 * float((exact - right).norm() / right.norm())
    (graph,) = integer.step.graphs
    found = linear_precisions(graph.compiled)
    quantized = [path for path, module in twin.named_modules() if isinstance(module, QuantizedLinear)]
    assert all(found[path] in ("u8", "i8") for path in quantized)


def test_groups_are_symmetric_where_the_runtime_is_to_round_them():
    grouped = {"activation_granularity": "per_token", "activation_group_size": 64}
    assert QuantConfig(backend="integer", **grouped).activation_symmetric
    assert not QuantConfig(**grouped).activation_symmetric
    assert not QuantConfig(backend="integer", activation_granularity="per_token").activation_symmetric
    assert not QuantConfig(backend="integer", activation_symmetric=False, **grouped).activation_symmetric
