import pytest
import torch

from ptq4dit.numerics.affine import (
    AffineSpec,
    affine_from_range,
    dequantize,
    fake_quantize,
    least_squares_range,
    quantize,
    value_range,
)

BITS = range(2, 9)


def gaussian(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def parameters(x, spec):
    return affine_from_range(*value_range(x, spec), spec)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_equals_torch_per_tensor(bits, symmetric):
    x, spec = gaussian(64, 33) * 3 + 0.7, AffineSpec(bits=bits, symmetric=symmetric)
    scale, zero_point = parameters(x, spec)
    expected = torch.fake_quantize_per_tensor_affine(x * 1.5, scale, zero_point, spec.qmin, spec.qmax)
    assert torch.equal(fake_quantize(x * 1.5, scale, zero_point, spec), expected)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_equals_torch_per_channel(bits, symmetric):
    x = gaussian(17, 40) * torch.arange(1, 18)[:, None]
    spec = AffineSpec(bits=bits, symmetric=symmetric, granularity="per_channel")
    scale, zero_point = parameters(x, spec)
    expected = torch.fake_quantize_per_channel_affine(x, scale[:, 0], zero_point[:, 0], 0, spec.qmin, spec.qmax)
    assert torch.equal(fake_quantize(x, scale, zero_point, spec), expected)


@pytest.mark.parametrize("symmetric", [False, True])
def test_scale_equals_torch_observers(symmetric):
    from torch.ao.quantization import MinMaxObserver

    x, spec = gaussian(100) + 0.3, AffineSpec(bits=8, symmetric=symmetric)
    scheme = torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine
    observer = MinMaxObserver(dtype=torch.qint8 if symmetric else torch.quint8, qscheme=scheme)
    observer(x)
    scale, zero_point = observer.calculate_qparams()
    own_scale, own_zero_point = parameters(x, spec)
    assert float(own_scale) == float(scale) and int(own_zero_point) == int(zero_point)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel", "per_token"])
def test_round_trip_is_within_half_a_step(bits, granularity):
    x, spec = gaussian(9, 31, dtype=torch.float64), AffineSpec(bits=bits, granularity=granularity)
    scale, zero_point = parameters(x, spec)
    error = (fake_quantize(x, scale, zero_point, spec) - x).abs()
    on_grid = (x > scale * (spec.qmin - zero_point)) & (x < scale * (spec.qmax - zero_point))
    assert (error <= scale / 2 + 1e-12)[on_grid].all()
    assert (error <= scale).all(), "rounding the zero point moves an end by at most half a step"


@pytest.mark.parametrize("symmetric", [False, True])
def test_integers_and_floats_say_the_same(symmetric):
    x, spec = gaussian(5, 8), AffineSpec(bits=4, symmetric=symmetric, granularity="per_channel")
    scale, zero_point = parameters(x, spec)
    q = quantize(x, scale, zero_point, spec)
    assert q.dtype == spec.dtype and q.min() >= spec.qmin and q.max() <= spec.qmax
    assert torch.equal(dequantize(q, scale, zero_point), fake_quantize(x, scale, zero_point, spec))


@pytest.mark.parametrize("low_high", [(1.0, 3.0), (-3.0, -1.0), (-1.0, 3.0)])
def test_zero_is_always_exact(low_high):
    spec = AffineSpec(bits=4)
    scale, zero_point = affine_from_range(*torch.tensor(low_high), spec)
    assert fake_quantize(torch.zeros(1), scale, zero_point, spec) == 0
    assert 0 <= zero_point <= 15


def test_worked_by_hand():
    spec = AffineSpec(bits=2)
    scale, zero_point = affine_from_range(torch.tensor(-1.0), torch.tensor(2.0), spec)
    assert (float(scale), int(zero_point)) == (1.0, 1)
    x = torch.tensor([-9.0, -1.0, -0.4, 0.6, 1.4, 2.0, 9.0])
    assert quantize(x, scale, zero_point, spec).tolist() == [0, 0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("value", [0.0, 1e-44, 1e-30])
def test_empty_and_tiny_ranges_stay_finite(value):
    x, spec = torch.full((3, 4), value), AffineSpec(bits=8, granularity="per_channel")
    scale, zero_point = parameters(x, spec)
    rounded = fake_quantize(x, scale, zero_point, spec)
    assert (scale > 0).all() and torch.isfinite(rounded).all() and ((rounded - x).abs() <= scale).all()


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_least_squares_range_is_better_with_outliers_and_never_worse(bits, granularity, symmetric):
    spec = AffineSpec(bits=bits, granularity=granularity, symmetric=symmetric)
    x = gaussian(6, 200)
    x[:, 0] *= 4
    full = value_range(x, spec)
    clipped = least_squares_range(x, *full, spec)

    def error(low_high):
        return (fake_quantize(x, *affine_from_range(*low_high, spec), spec) - x).square().sum(1)

    assert error(clipped).sum() < 0.9 * error(full).sum()
    if granularity == "per_channel":
        assert (error(clipped) <= error(full)).all()


def test_least_squares_range_keeps_a_range_that_is_exact():
    spec = AffineSpec(bits=4)
    x = torch.arange(-5, 11).float()
    low, high = least_squares_range(x, *value_range(x, spec), spec)
    assert (float(low), float(high)) == (-5.0, 10.0)


@pytest.mark.parametrize("bits", [1, 9, 16])
def test_refuses_bits(bits):
    with pytest.raises(ValueError, match="2 to 8 bits"):
        AffineSpec(bits=bits)


def test_a_narrow_grid_reaches_as_far_down_as_up():
    spec = AffineSpec(bits=8, symmetric=True, narrow=True)
    assert (spec.qmin, spec.qmax) == (-127, 127)
    assert (AffineSpec(bits=8, symmetric=True).qmin, AffineSpec(bits=8, symmetric=True).qmax) == (-128, 127)
    scale, zero_point = affine_from_range(torch.tensor(-254.0), torch.tensor(100.0), spec)
    assert (float(scale), int(zero_point)) == (2.0, 0)
    with pytest.raises(ValueError, match="symmetric"):
        AffineSpec(bits=8, narrow=True)
