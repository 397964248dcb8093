"""What cannot be quantized is refused in one sentence; what looks odd but is well defined gives the right result."""

import copy
import math

import pytest
import torch

from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.methods import method_names
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.sampling.denoise import generate
from tests.long_form import usually

CALIBRATION = CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=4)
USUAL = ("ptq4dit", "ours", "gptq", "svdquant")
"""All other methods are tried with what is odd in the long form."""
LEARNED = ReconstructionConfig(steps=1, images=4, timesteps=1, held_out=0.25, batch_size=4)


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CALIBRATION)


@pytest.fixture(scope="module")
def other(make_dit):
    return calibrate(make_dit(seed=1), CALIBRATION)


def changed(dit, change):
    """A copy of a bundle whose transformer was changed in place."""
    transformer = copy.deepcopy(dit.transformer)
    with torch.no_grad():
        change(transformer)
    return dit.with_transformer(transformer)


def fill(path, value):
    """Set one value of a parameter."""

    def change(transformer):
        transformer.get_parameter(path).view(-1)[0] = value

    return change


def kill_channels(transformer):
    """Channel 3 of what block 0's q, k, v and fc1 read is always zero; so is column 5 of their weights."""
    block, width = transformer.transformer_blocks[0], 16
    for shift, scale in ((0, 1), (3, 4)):
        block.norm1.linear.weight[[shift * width + 3, scale * width + 3]] = 0
        block.norm1.linear.bias[shift * width + 3] = 0
        block.norm1.linear.bias[scale * width + 3] = -1
    for linear in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v, block.ff.net[0].proj):
        linear.weight[:, 5] = 0


def silence(transformer):
    """Block 0's V is zero, so proj reads zeros only; the weight of block 1's fc1 is zero."""
    for parameter in transformer.transformer_blocks[0].attn1.to_v.parameters():
        parameter.zero_()
    transformer.transformer_blocks[1].ff.net[0].proj.weight.zero_()


BROKEN = {
    "transformer_blocks.1.ff.net.2.weight": math.nan,
    "transformer_blocks.0.attn1.to_k.bias": math.inf,
    "transformer_blocks.1.norm1.linear.weight": -math.inf,
    "proj_out_2.weight": math.nan,
    "pos_embed.proj.weight": math.inf,
}


@pytest.mark.parametrize(("path", "value"), list(BROKEN.items()))
def test_weights_that_are_not_finite_are_named(dit, path, value):
    with pytest.raises(ValueError, match=f"finite weights, got nan or infinity in '{path}'"):
        calibrate(changed(dit, fill(path, value)), CALIBRATION)


class Packed(torch.Tensor):
    """As torchao and its kin replace a weight: hardly any operation is there."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function.__name__ in ("isfinite", "abs", "all"):
            raise NotImplementedError(function.__name__)
        return super().__torch_function__(function, types, args, kwargs or {})


def pack(transformer):
    linear = transformer.transformer_blocks[0].attn1.to_q
    linear._parameters["weight"] = linear.weight.detach().as_subclass(Packed)


def test_weights_of_another_package_are_named(dit, stats):
    kinds = {
        "a weight of type Packed. The model is quantized already": pack,
        "a weight of torch.float8_e4m3fn. The model is quantized already": (
            lambda transformer: transformer.transformer_blocks[0].attn1.to_q.to(torch.float8_e4m3fn)
        ),
        "a weight on the meta device": lambda transformer: transformer.transformer_blocks[0].attn1.to_q.to("meta"),
    }
    for message, change in kinds.items():
        model = changed(dit, change)
        for work in (lambda: calibrate(model, CALIBRATION), lambda: quantize(model, stats)):  # noqa: B023
            with pytest.raises(ValueError, match=f"Expected float weights at '.*to_q.weight', got {message}"):
                work()


@pytest.mark.parametrize("method", method_names())
def test_every_method_names_a_weight_that_broke_after_calibration(dit, stats, method):
    with pytest.raises(ValueError, match=r"finite weights, got nan or infinity in 'transformer_blocks\.1\.ff\.net\.2"):
        quantize(
            changed(dit, fill("transformer_blocks.1.ff.net.2.weight", math.nan)),
            stats,
            QuantConfig(method=method, **parts(method)),
        )


@pytest.mark.parametrize(
    "path", ["transformer_blocks.1.norm1.linear.weight", "transformer_blocks.0.ff.net.0.proj.weight"]
)
def test_activations_that_overflow_are_named(dit, path):
    def change(transformer):
        transformer.get_parameter(path).fill_(3e38)

    with pytest.raises(ValueError, match=r"finite activations, got others into blocks\.[01]\.\w+"):
        calibrate(changed(dit, change), CALIBRATION)


@pytest.fixture(scope="module", params=["dead channels", "dead layers", "one timestep"])
def odd(request, dit):
    """A bundle and a calibration that are unusual, but can be quantized."""
    if request.param == "one timestep":
        stats = calibrate(dit, CalibrationConfig(timesteps=1, samples_per_timestep=4, steps=4))
        assert len(stats.timesteps) == 1
        return dit, stats
    model = changed(dit, kill_channels if request.param == "dead channels" else silence)
    stats = calibrate(model, CALIBRATION)
    dead = (
        stats.activation_salience["blocks.0.qkv"][:, 3]
        if request.param == "dead channels"
        else (stats.activation_salience["blocks.0.proj"])
    )
    assert dead.abs().max() < 1e-6
    return model, stats


@pytest.mark.parametrize("method", usually(method_names(), USUAL))
def test_odd_models_get_finite_weights_and_pictures_close_to_full_precision(odd, method):
    """At 8 bits; nothing to balance is no reason to fail."""
    model, stats = odd
    close_to_float(model, quantize(model, stats, QuantConfig(method=method, **parts(method))))


def test_one_timestep_has_one_group_of_timesteps(dit):
    stats = calibrate(dit, CalibrationConfig(timesteps=1, samples_per_timestep=4, steps=4))
    config = QuantConfig(activation_granularity="per_timestep_group", timestep_groups=5)
    with pytest.raises(ValueError, match="timestep_groups"):
        quantize(dit, stats, config)
    close_to_float(
        dit, quantize(dit, stats, QuantConfig(activation_granularity="per_timestep_group", timestep_groups=1))
    )


@pytest.mark.parametrize("method", method_names())
def test_every_method_refuses_the_calibration_of_another_model(dit, other, method):
    with pytest.raises(ValueError, match="Expected the model that was calibrated"):
        quantize(dit, other, QuantConfig(method=method, **parts(method)))


def test_a_calibration_of_another_size_is_refused(dit, make_dit):
    other = calibrate(make_dit(num_layers=1), CALIBRATION)
    with pytest.raises(ValueError, match="Expected the model that was calibrated"):
        quantize(dit, other)


@pytest.mark.parametrize("name", ["weight_bits", "activation_bits", "attention_bits", "softmax_bits"])
@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 15, 32, True])
def test_bits_out_of_range(name, bits):
    with pytest.raises(ValueError, match=f"Expected {name} to be 2 to 8, or 16"):
        QuantConfig(**{name: bits})


def test_bits_of_an_override_out_of_range():
    with pytest.raises(ValueError, match="Expected weight_bits to be 2 to 8, or 16"):
        QuantConfig(overrides={"*.fc2": {"weight_bits": 1}})


def test_group_sizes_that_do_not_divide(dit, stats):
    with pytest.raises(ValueError, match=r"blocks\.0\.qkv: .*a group_size that divides 16 input channels, got 5"):
        quantize(dit, stats, QuantConfig(group_size=5))
    config = QuantConfig(activation_granularity="per_token", activation_group_size=5)
    with pytest.raises(ValueError, match="an activation_group_size that divides 16 input channels, got 5"):
        quantize(dit, stats, config)


@pytest.mark.parametrize(("given", "got"), [(None, "None"), ("c.safetensors", "'c.safetensors'"), ({}, "a dict")])
@pytest.mark.usefixtures("untyped")
def test_what_is_no_calibration(dit, given, got):
    with pytest.raises(ValueError, match=rf"Expected a ptq4dit.Calibration, got {got}\. Pass ptq4dit.Calibration.load"):
        quantize(dit, given)


@pytest.mark.usefixtures("untyped")
def test_what_is_no_config(dit, stats):
    with pytest.raises(ValueError, match=r"Expected a ptq4dit.QuantConfig, got a dict\. Write"):
        quantize(dit, stats, {"weight_bits": 4})


@pytest.mark.parametrize("method", ["magic", "", "PTQ4DiT"])
def test_unknown_method(method):
    with pytest.raises(ValueError, match=r"Expected method to be one of .*'ptq4dit'"):
        QuantConfig(method=method)


def parts(method):
    """Small settings of reconstruction for the methods that reconstruct."""
    return {"reconstruction": LEARNED} if method in ("ptq4dit", "qdiffusion", "ptqd", "gptq", "ours") else {}


def close_to_float(dit, model):
    assert all(tensor.isfinite().all() for tensor in model.transformer.state_dict().values())
    exact, rounded = (generate(m, [0, 3], steps=2, seed=1) for m in (dit, model))
    assert rounded.isfinite().all()
    assert float((exact - rounded).square().mean()) < 0.02
