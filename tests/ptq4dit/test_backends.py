"""Whole models on the integer backend: against their simulated twin, sampling, saving, what is refused."""

import dataclasses

import pytest
import torch

from ptq4dit.backends.dispatch import with_backend
from ptq4dit.backends.integer_linear import IntegerLinear
from ptq4dit.backends.openvino import cpu_capabilities
from ptq4dit.backends.openvino_linear import products_saturate
from ptq4dit.backends.openvino_profile import profile_step
from ptq4dit.backends.options import IntegerOptions, chosen_precision
from ptq4dit.backends.products import linear_precisions
from ptq4dit.backends.shared_copies import lean_copy, resident_bytes
from ptq4dit.calibration.run import calibrate
from ptq4dit.checkpoint.packed import load_quantized, save_quantized
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.metrics.tensor import relative_error
from ptq4dit.model.forward import modulate, predict
from ptq4dit.model.layers import ROLES
from ptq4dit.quantized.convert import describe
from ptq4dit.sampling.denoise import denoise, generate

BOUND = 1e-4
"""Squared relative error of one forward that flips of single roundings stay below, and wrong numbers exceed."""
EVERYTHING = {"modulation": True, "conditioning": True, "patch_embed": True, "final_layer": True}
CONFIGS = {
    "W8A8": QuantConfig(weight_symmetric=True),
    "W8A8 asymmetric": QuantConfig(),
    "W4A8": QuantConfig(weight_bits=4),
    "W3A6": QuantConfig(weight_bits=3, activation_bits=6, activation_symmetric=True),
    "W4A8, fc2 balanced": QuantConfig(weight_bits=4, balance_fc2=True),
    "everything": QuantConfig(weight_bits=4, **EVERYTHING),
}


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=5, rows_per_timestep=8))


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return IntegerOptions(cache=tmp_path_factory.mktemp("compiled"), threads=1)


@pytest.fixture(scope="module")
def simulated(dit, stats):
    return {name: quantize(dit, stats, config) for name, config in CONFIGS.items()}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, options):
    monkeypatch.setenv("PTQ4DIT_CACHE", str(options.cache))


def inputs(rows=4):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 4, 8, 8, generator=generator)
    return x, torch.tensor([900, 500, 20, 3])[:rows], torch.tensor([0, 5, 2, 5])[:rows]


def output(model, given=None):
    x, timesteps, labels = given or inputs()
    with torch.no_grad():
        return model.transformer(x, timestep=timesteps, class_labels=labels).sample


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_simulated_twin_up_to_rounding_flips(name, simulated, options):
    model = with_backend(simulated[name], "integer", options)
    assert relative_error(output(simulated[name]), output(model)) < BOUND
    assert torch.equal(output(model), output(model))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_block_linear_multiplies_integers(name, dit, simulated, options):
    model = with_backend(simulated[name], "integer", options)
    output(model)
    precisions = linear_precisions(model.transformer.step.compiled)
    wanted = {f"blocks.{block}.{role}" for block in range(2) for role in ROLES}
    assert wanted <= precisions.keys() and {precisions[layer] for layer in wanted} <= {"u8", "i8"}


@pytest.mark.parametrize("wrong", ["weight_zero_point", "weight_scale"])
def test_the_bound_would_see_one_wrong_number_of_a_weight(wrong, simulated, options):
    model = with_backend(simulated["W4A8"], "simulated")
    linear = model.transformer.transformer_blocks[1].ff.net[0].proj
    right = getattr(linear, wrong)
    setattr(linear, wrong, right * 2 if "scale" in wrong else right + 1)
    assert relative_error(output(simulated["W4A8"]), output(with_backend(model, "integer", options))) > BOUND


@pytest.mark.parametrize("wrong", ["activation_zero_point", "activation_scale"])
def test_the_bound_would_see_one_wrong_number_of_an_input(wrong, simulated, options, tmp_path, monkeypatch):
    name = "offset" if "zero" in wrong else "combined_scale"
    right = getattr(IntegerLinear, name).fget

    def broken(layer):
        value = getattr(layer, wrong)
        spoilt = {wrong: value * 2 if "scale" in wrong else value + 8} if layer.name == "blocks.1.fc1" else {}
        return right(dataclasses.replace(layer, **spoilt))

    monkeypatch.setattr(IntegerLinear, name, property(broken))
    model = with_backend(simulated["W4A8"], "integer", dataclasses.replace(options, cache=tmp_path))
    assert relative_error(output(simulated["W4A8"]), output(model)) > BOUND


def test_any_batch_size_without_compiling_again(simulated, options):
    model = with_backend(simulated["W8A8"], "integer", options)
    compiled = model.transformer.step.compiled
    whole = output(model)
    for rows in (1, 3):
        torch.testing.assert_close(output(model, inputs(rows)), whole[:rows], rtol=1e-4, atol=1e-3)
    assert model.transformer.step.compiled is compiled


def test_it_samples_as_its_twin_does(simulated, options):
    twin = simulated["W8A8"]
    model = with_backend(twin, "integer", options)
    for sampler in (None, "dpm++"):
        *_, expected = denoise(twin, [1, 3], steps=4, sampler=sampler)
        *_, actual = denoise(model, [1, 3], steps=4, sampler=sampler)
        assert relative_error(expected.latents, actual.latents) < 10 * BOUND
    assert generate(model, [1], steps=2).shape == (1, 3, 16, 16)


def test_quantize_builds_it_and_says_so(dit, stats):
    model = quantize(dit, stats, QuantConfig(backend="integer"))
    assert describe(model)["backend"] == "integer" and model.transformer.ptq4dit_record.config.weight_symmetric
    assert model.dtype == torch.float32 and model.device.type == "cpu" and model.frequencies == dit.frequencies
    assert "OpenVINO" in model.transformer.runtime and model.latent_shape == dit.latent_shape
    assert not QuantConfig(backend="integer", weight_bits=4).weight_symmetric


def test_back_to_simulated_gives_the_same_bits(simulated, options):
    model = with_backend(simulated["W4A8"], "integer", options)
    back = with_backend(model, "simulated")
    assert torch.equal(output(back), output(simulated["W4A8"]))
    assert describe(back)["backend"] == "simulated" and describe(model)["backend"] == "integer"
    assert describe(simulated["W4A8"])["backend"] == "simulated"


@pytest.mark.parametrize("name", ["W8A8", "everything"])
def test_saved_and_loaded(name, simulated, options, tmp_path):
    model = with_backend(simulated[name], "integer", options)
    save_quantized(model, tmp_path / "saved")
    loaded = load_quantized(tmp_path / "saved")
    assert describe(loaded)["backend"] == "integer" and torch.equal(output(loaded), output(model))
    twin = load_quantized(tmp_path / "saved", backend="simulated")
    assert torch.equal(output(twin), output(simulated[name]))


def test_it_keeps_integers_only(simulated):
    model = simulated["everything"].transformer
    lean = lean_copy(model)
    linears = [m for m in lean.modules() if type(m).__name__.startswith("Quantized")]
    assert linears and all(linear.weight.numel() == 0 for linear in linears)
    assert resident_bytes(lean) < 0.4 * resident_bytes(model)
    x, timesteps, labels = inputs()
    with torch.no_grad():
        expected, actual = (m(x, timestep=timesteps, class_labels=labels).sample for m in (model, lean))
    assert torch.equal(expected, actual) and all(
        linear.weight.numel() for linear in model.modules() if type(linear).__name__.startswith("Quantized")
    )


def test_equal_embedders_are_one_in_memory(make_dit):
    transformer = make_dit(num_layers=3).transformer
    embedders = [block.norm1.emb for block in transformer.transformer_blocks]
    assert resident_bytes(lean_copy(transformer)) == resident_bytes(transformer)
    for embedder in embedders[1:]:
        embedder.load_state_dict(embedders[0].state_dict())
    shared = resident_bytes(transformer) - resident_bytes(lean_copy(transformer))
    assert shared == 2 * resident_bytes(embedders[0])
    x, timesteps, labels = inputs()
    with torch.no_grad():
        expected = transformer(x, timestep=timesteps, class_labels=labels).sample
        actual = predict(transformer, x, modulate(transformer, timesteps, labels))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (QuantConfig(weight_bits=16), "'blocks.0.qkv': it has weights in float.*weight_bits from 2 to 8"),
        (QuantConfig(activation_bits=16), "'blocks.0.qkv': it has activations in float"),
        (
            QuantConfig(activation_granularity="per_token", activation_group_size=8),
            r"'transformer_blocks.0.attn1.to_q'.*2 products of 8 channels.*larger groups, or none",
        ),
        (QuantConfig(activation_granularity="per_timestep_group", timestep_groups=2), "per_timestep_group"),
        (QuantConfig(weight_bits=4, group_size=8), "group_size=8.*group_size=None"),
        (QuantConfig(rotation=True), "rotation at run time"),
        (QuantConfig(rank=2), "low-rank branch"),
        (
            QuantConfig(attention_bits=8),
            "'blocks.0.attention'.*softmax in 16 bits.*8 with softmax_bits=8",
        ),
        (QuantConfig(attention_bits=6, softmax_bits=8), "'blocks.0.attention'.*q in 6 bits"),
        (QuantConfig(attention_bits=8, softmax_bits=8), "q, k and v with a zero point.*activation_symmetric"),
        (QuantConfig(overrides={"blocks.1.fc2": {"activation_bits": 16}}), "'blocks.1.fc2'.*activations in float"),
    ],
)
def test_refuses_what_it_cannot_run(dit, stats, options, config, message):
    with pytest.raises(ValueError, match=message):
        with_backend(quantize(dit, stats, config), "integer", options)


def test_a_graph_for_one_batch_size_gives_the_same_and_refuses_others(simulated, options):
    fixed = with_backend(simulated["W8A8"], "integer", dataclasses.replace(options, batch=4))
    expected = output(with_backend(simulated["W8A8"], "integer", options))
    torch.testing.assert_close(output(fixed), expected, rtol=1e-4, atol=1e-3)
    assert fixed.transformer.runtime.endswith("4 rows a call")
    with pytest.raises(ValueError, match=r"Expected 4 rows.*got 3.*batch=None"):
        output(fixed, inputs(3))


def test_refuses_a_float_model_and_unknown_backends(dit, simulated):
    with pytest.raises(ValueError, match="Expected a quantized model"):
        with_backend(dit, "integer")
    with pytest.raises(ValueError, match="backend to be one of"):
        with_backend(simulated["W8A8"], "quantum")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threads": 0}, "threads"),
        ({"batch": 0}, "batch to be at least 1"),
        ({"cache_bytes": -1}, "cache_bytes to be an integer of at least 0"),
    ],
)
def test_refuses_options(values, message):
    with pytest.raises(ValueError, match=message):
        IntegerOptions(**values)


needs_bf16 = pytest.mark.skipif("BF16" not in cpu_capabilities(), reason="this CPU has no bf16 products")


@needs_bf16
def test_bf16_is_close(simulated, options):
    model = with_backend(simulated["W8A8"], "integer", dataclasses.replace(options, precision="bf16"))
    assert relative_error(output(simulated["W8A8"]), output(model)) < 0.01
    assert model.transformer.runtime.endswith("rest in bf16")


@needs_bf16
@pytest.mark.parametrize("name", ["W8A8", "W8A8 asymmetric", "W4A8"])
def test_attention_in_bf16_keeps_the_bound(name, simulated, options):
    model = with_backend(simulated[name], "integer", dataclasses.replace(options, precision="mixed"))
    assert relative_error(output(simulated[name]), output(model)) < BOUND
    assert not torch.equal(output(with_backend(simulated[name], "integer", options)), output(model))
    assert model.transformer.runtime.endswith("attention in bf16, rest in f32")
    assert set(linear_precisions(model.transformer.step.compiled).values()) == {"u8"}


def test_precision_by_size_and_processor(simulated, options):
    able, unable = ["FP32", "BF16"], ["INT8", "FP32"]
    assert chosen_precision("auto", 256, 8, able) == "mixed"
    others = {(64, 8): able, (256, 6): able, (256, 8): unable}
    assert {chosen_precision("auto", *size, cpu) for size, cpu in others.items()} == {"f32"}
    assert chosen_precision("bf16", 64, 6, able) == "bf16" and chosen_precision("f32", 256, 8, able) == "f32"
    with pytest.raises(ValueError, match=r'bf16 products for precision="mixed", got .*FP32, INT8.*Choose'):
        chosen_precision("mixed", 256, 8, unable)
    assert with_backend(simulated["W8A8"], "integer", options).transformer.runtime.endswith("CPU, rest in f32")


def test_a_profile_names_every_layer_and_accounts_for_the_call(simulated, options):
    model = with_backend(simulated["W8A8"], "integer", options)
    x, timesteps, labels = inputs()
    found = profile_step(model.transformer.step, x, model.transformer.modulate(timesteps, labels), calls=30)
    nodes = {kind: numbers["nodes"] for kind, numbers in found["kinds"].items()}
    products = 2 * (1 + products_saturate())  # two blocks, each weight in halves where one product is not exact
    assert nodes["product qkv"] == 3 * products
    assert nodes["product proj"] == nodes["product fc1"] == nodes["product fc2"] == products
    assert nodes["attention"] == 2 and nodes["norms"] == 2 * 2 + 1
    inside = sum(numbers["ms"] for numbers in found["kinds"].values())
    assert inside > 0 and inside + found["outside_ms"] == pytest.approx(found["call_ms"], abs=0.01)
    assert found["outside_ms"] > 0
