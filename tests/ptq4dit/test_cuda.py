"""The CUDA backend's arithmetic, on the CPU where there is no GPU: shapes, zero points, the reference's numbers."""

import pytest
import torch
from torch import nn

from ptq4dit.backends import cuda
from ptq4dit.backends.integer_linear import integer_linear_of
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.reference import integer_linear, token_linear
from ptq4dit.backends.token_linear import token_linear_of
from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import LayerConfig, QuantConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.quantized.linear import QuantizedLinear
from tests.ptq4dit.backends.tiny_quantized import tiny_quantized


def layer_of(d_in, d_out, seed, low=-2.0, high=3.0, **settings):
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(d_in, d_out)
    with torch.no_grad():
        linear.weight.copy_(
            torch.randn(linear.weight.shape, generator=generator) + torch.linspace(-1, 1, d_out)[:, None]
        )
        linear.bias.copy_(torch.randn(d_out, generator=generator))
    config = LayerConfig(**({"weight_range": "minmax"} | settings))
    return QuantizedLinear.from_float(linear, config, (torch.tensor(low), torch.tensor(high)))


def by_reference(layer, x):
    return integer_linear(x, integer_linear_of("fc1", [layer]))


def on_int8(layer):
    return cuda.Int8Linear(integer_linear_of("fc1", [layer]), layer.config)


@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("bits", [4, 8, 3])
@pytest.mark.parametrize(("rows", "d_in", "d_out"), [(1, 8, 8), (16, 24, 5), (17, 13, 9), (40, 72, 64), (2, 33, 17)])
def test_equals_the_reference(rows, d_in, d_out, bits, symmetric):
    layer = layer_of(
        d_in, d_out, seed=rows + bits, weight_bits=bits, weight_symmetric=symmetric, activation_symmetric=symmetric
    )
    x = torch.randn(rows, d_in, generator=torch.Generator().manual_seed(rows)) * 2
    x[0, 0], x[-1, -1] = 1e6, -1e6  # both ends of the grid
    torch.testing.assert_close(on_int8(layer)(x), by_reference(layer, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(-5.0, 0.0), (0.0, 4.0), (-1e-3, 9.0), (-1e4, 1e4)])
def test_zero_points_at_the_ends_of_the_grid(low, high):
    layer = layer_of(48, 16, seed=3, low=low, high=high)
    with torch.no_grad():
        layer.weight_q[0], layer.weight_q[1] = 0, 255
        layer.weight_q[2] = int(layer.weight_zero_point[2])  # a channel of zeros
    x = torch.randn(33, 48, generator=torch.Generator().manual_seed(0)) * max(abs(low), high)
    result = on_int8(layer)(x)
    torch.testing.assert_close(result, by_reference(layer, x), rtol=1e-6, atol=1e-5)
    assert torch.equal(result[:, 2], layer.bias[2].expand(33))


def test_a_wrong_zero_point_would_be_seen():
    layer = layer_of(48, 16, seed=3)
    x = torch.randn(33, 48, generator=torch.Generator().manual_seed(0))
    right = by_reference(layer, x)
    layer.weight_zero_point += 1
    assert (on_int8(layer)(x) - right).abs().max() > 1e-2


def test_the_kernel_gets_shapes_that_it_takes_on_a_gpu(monkeypatch):
    seen = []

    def product(a, b):
        seen.append((a.shape, b.shape))
        assert a.dtype == b.dtype == torch.int8
        return a.int() @ b.int()

    monkeypatch.setattr(torch, "_int_mm", product)
    for rows in (1, 16, 17, 31):
        on_int8(layer_of(13, 7, seed=0))(torch.randn(rows, 13))
    for a, b in seen:
        assert a[0] > 16 and a[1] % 8 == 0 and b[1] % 8 == 0 and a[1] == b[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"activation_granularity": "per_token"},
        {"activation_granularity": "per_token", "activation_symmetric": True, "weight_symmetric": True},
        {"activation_granularity": "per_token", "activation_group_size": 8, "weight_bits": 4, "patch_embed": True},
        {"activation_granularity": "per_token", "group_size": 8, "csb": True, "balance_fc2": True},
        {"rotation": True, "rank": 2},
        {"csb": True, "balance_fc2": True},
        {"activation_granularity": "per_timestep_group", "timestep_groups": 2},
        {"weight_bits": 4, "patch_embed": True, "conditioning": True, "modulation": True, "final_layer": True},
    ],
    ids=[
        "tokens",
        "symmetric",
        "groups of tokens",
        "groups of weights",
        "rotated",
        "balanced",
        "groups of timesteps",
        "everything",
    ],
)
def test_a_whole_model_agrees_with_its_simulated_twin(dit, settings):
    stats = calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2))
    config = QuantConfig(**({"csb": False, "ssc": False, "weight_range": "minmax"} | settings))
    twin = quantize(dit, stats, config).transformer
    replaced = cuda.replace_linears(twin)
    assert not [m for m in replaced.modules() if isinstance(m, QuantizedLinear)]
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    call = {"timestep": torch.tensor([900, 500, 10]), "class_labels": torch.tensor([0, 3, 5])}
    with torch.no_grad():
        mine, simulated = replaced(latents, **call).sample, twin(latents, **call).sample
    assert (mine - simulated).norm() < 1e-2 * simulated.norm()  # rounding flips only


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"weight_bits": 16}, "weights in float"),
        ({"activation_bits": 16}, "activations in float"),
        ({"group_size": 8}, "group_size=8"),
        ({"activation_granularity": "per_token", "group_size": 8, "rank": 2}, "low-rank branch"),
    ],
)
def test_what_integers_cannot_express_is_refused_by_name(dit, settings, named):
    stats = calibrate(dit, CalibrationConfig(timesteps=1, samples_per_timestep=1, steps=1))
    twin = quantize(dit, stats, QuantConfig(csb=False, ssc=False, weight_range="minmax", **settings)).transformer
    with pytest.raises(ValueError, match=rf"transformer_blocks\.0\..*{named}.*simulated"):
        cuda.replace_linears(twin)


@pytest.mark.parametrize(
    "settings",
    [{"activation_group_size": 16}, {"activation_group_size": 16, "activation_symmetric": True}, {"group_size": 24}],
    ids=["groups", "symmetric groups", "groups of weights"],
)
def test_groups_equal_the_reference(settings):
    layer = layer_of(48, 13, seed=2, weight_bits=4, activation_granularity="per_token", **settings)
    x = torch.randn(2, 9, 48, generator=torch.Generator().manual_seed(0)) * 3
    expected = token_linear(x, token_linear_of("fc1", [layer]))
    torch.testing.assert_close(cuda.int8_module("fc1", layer, None)(x), expected.float(), rtol=1e-5, atol=1e-5)


def test_no_gpu_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"CUDA device.*CPU.*simulated"):
        cuda.build(nn.Linear(2, 2))


def test_options_of_the_cpu_are_refused_by_name():
    cuda.require_no_options(IntegerOptions())
    for setting in ({"threads": 2}, {"batch": 2}, {"precision": "bf16"}):
        with pytest.raises(ValueError, match=rf"IntegerOptions\.{next(iter(setting))} .* on CUDA"):
            cuda.require_no_options(IntegerOptions(**setting))


def test_on_a_gpu(dit):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from ptq4dit.backends.dispatch import with_backend

    stats = calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2))
    model = quantize(dit, stats, QuantConfig(weight_bits=4, csb=False, ssc=False))
    model = model.with_transformer(model.transformer.to("cuda"))
    latents = torch.randn(2, 4, 8, 8, device="cuda")
    call = {"timestep": torch.tensor([900, 10], device="cuda"), "class_labels": torch.tensor([0, 3], device="cuda")}
    with torch.no_grad():
        simulated = model.transformer(latents, **call).sample
        integer = with_backend(model, "integer").transformer(latents, **call).sample
    assert (integer - simulated).norm() < 1e-2 * simulated.norm()


@pytest.mark.parametrize("name", ["sd3", "sana", "qwen"])
def test_the_layers_of_any_family_are_replaced(name):
    twin, call, _ = tiny_quantized(name, weight_bits=4)
    replaced = cuda.replace_linears(twin)
    assert not [module for module in replaced.modules() if isinstance(module, QuantizedLinear)]
    with torch.no_grad():
        (mine, *_), (simulated, *_) = call.on(replaced), call.on(twin)
    assert (mine - simulated).norm() < 1e-2 * simulated.norm()
