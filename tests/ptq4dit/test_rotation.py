import copy

import pytest
import scipy.linalg
import torch

from ptq4dit.numerics.rotation import Rotation, factors, hadamard


@pytest.mark.parametrize("order", [1, 2, 4, 12, 16, 20, 24, 28, 36, 128])
def test_hadamard_matrices(order):
    h = hadamard(order)
    assert set(h.unique().tolist()) <= {-1.0, 1.0}
    assert torch.equal(h @ h.T, order * torch.eye(order, dtype=h.dtype))


def test_powers_of_two_are_scipy_s():
    assert torch.equal(hadamard(32), torch.from_numpy(scipy.linalg.hadamard(32, dtype=float)))


@pytest.mark.parametrize(
    ("width", "expected"), [(192, (12, 16)), (768, (12, 64)), (1152, (36, 32)), (4608, (36, 128)), (7, (1, 1))]
)
def test_widths_of_real_models(width, expected):
    assert factors(width) == expected


@pytest.mark.parametrize("width", [192, 768, 1152, 16, 48, 100, 7])
def test_products_stay(width):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, width, generator=g, dtype=torch.float64)
    weight = torch.randn(5, width, generator=g, dtype=torch.float64)
    rotation = Rotation(width=width, seed=3)
    before = x.clone()
    torch.testing.assert_close(rotation.apply(x) @ rotation.apply(weight).T, x @ weight.T, rtol=0, atol=1e-10)
    torch.testing.assert_close(rotation.apply(x).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(x, before) and copy.deepcopy(rotation) == rotation


def test_equals_the_full_matrix():
    identity = torch.eye(48, dtype=torch.float64)
    matrix = Rotation(width=48).apply(identity)
    torch.testing.assert_close(matrix @ matrix.T, identity)
    assert matrix.abs().max() < 0.15 and not torch.equal(matrix, Rotation(width=48, seed=1).apply(identity))


def test_one_salient_channel_is_spread_evenly():
    x = torch.zeros(1, 192)
    x[0, 5] = 8
    spread = Rotation(width=192).apply(x)
    torch.testing.assert_close(spread.abs(), torch.full_like(x, 8 / 192**0.5))


def test_refuses_other_orders():
    with pytest.raises(ValueError, match="power of two"):
        hadamard(6)
