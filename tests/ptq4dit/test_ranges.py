import numpy as np
import pytest
import torch

from ptq4dit.config.quantization import LayerConfig
from ptq4dit.numerics.affine import (
    PERCENTILES,
    AffineSpec,
    affine_from_range,
    fake_quantize,
    percentile_range,
    value_range,
)
from ptq4dit.quantized.ranges import grouped_range, static_range
from ptq4dit.quantized.weight import expand_weight, quantize_weight


def rows(seed=0):
    return torch.randn(6, 40, 8, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, 7)[:, None, None]


def test_percentiles_are_numpy_s_and_the_best_is_chosen():
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    x[:2] = torch.tensor([-60.0, 60.0])
    spec = AffineSpec(bits=4)
    full = value_range(x, spec)
    found = percentile_range(x, *full, spec)

    def error(low, high):
        scale, zero_point = affine_from_range(torch.tensor(float(low)), torch.tensor(float(high)), spec)
        return float((fake_quantize(x, scale, zero_point, spec) - x).square().sum())

    candidates = [(np.quantile(x, 1 - p), np.quantile(x, p)) for p in PERCENTILES] + [tuple(map(float, full))]
    best = min(candidates, key=lambda ends: error(*ends))
    assert (float(found[0]), float(found[1])) == pytest.approx(best, rel=1e-4)
    assert best != candidates[-1]


def test_moving_average_by_hand():
    low, high = -torch.tensor([[1.0], [3.0], [2.0]]), torch.tensor([[2.0], [4.0], [8.0]])
    found = static_range(low, high, None, LayerConfig(activation_range="moving"))
    assert float(found[0]) == pytest.approx(-(0.9 * (0.9 * 1 + 0.1 * 3) + 0.1 * 2))
    assert float(found[1]) == pytest.approx(0.9 * (0.9 * 2 + 0.1 * 4) + 0.1 * 8)


@pytest.mark.parametrize("way", ["minmax", "moving", "percentile", "mse"])
def test_each_group_has_the_range_of_its_own_timesteps(way):
    x = rows()
    low, high = x.amin(1), x.amax(1)
    config = LayerConfig(activation_bits=4, activation_range=way, activation_granularity="per_timestep_group")
    groups = [slice(0, 2), slice(2, 6)]
    found = grouped_range(low, high, x, config, groups)
    for i, group in enumerate(groups):
        own = static_range(low[group], high[group], x[group], config)
        assert (float(found[0][i]), float(found[1][i])) == (float(own[0]), float(own[1]))
    assert found[1][0] < found[1][1]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("way", ["minmax", "percentile", "mse"])
def test_a_group_is_rounded_like_a_weight_of_its_own(symmetric, way):
    weight = torch.randn(6, 24, generator=torch.Generator().manual_seed(0))
    config = LayerConfig(weight_bits=4, weight_symmetric=symmetric, weight_range=way)
    grouped = LayerConfig(weight_bits=4, weight_symmetric=symmetric, weight_range=way, group_size=8)
    integers, scale, zero_point = quantize_weight(weight, grouped)
    assert scale.shape == zero_point.shape == (6, 3) and integers.dtype == torch.uint8 and int(integers.max()) <= 15
    assert not symmetric or (zero_point == 8).all()
    for group in range(3):
        own = quantize_weight(weight[:, group * 8 : group * 8 + 8], config)
        assert torch.equal(integers[:, group * 8 : group * 8 + 8], own[0])
    coarse = expand_weight(*quantize_weight(weight, config))
    assert (expand_weight(integers, scale, zero_point) - weight).square().sum() < (coarse - weight).square().sum()


def test_refuses_a_group_size_that_does_not_divide():
    with pytest.raises(ValueError, match="divides 24 input channels, got 7"):
        quantize_weight(torch.randn(2, 24), LayerConfig(group_size=7))
