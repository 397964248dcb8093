import numpy as np
import pytest
import scipy.linalg
import torch

from ptq4dit.metrics.frechet import frechet_distance


def by_scipy(a: np.ndarray, b: np.ndarray) -> float:
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * np.real(root)))


def test_equals_the_matrix_square_root_of_scipy() -> None:
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(12, 12, generator=g, dtype=torch.float64)
    a = torch.randn(300, 12, generator=g, dtype=torch.float64) @ mix
    b = torch.randn(200, 12, generator=g, dtype=torch.float64) + 0.5
    assert frechet_distance(a, b) == pytest.approx(by_scipy(a.numpy(), b.numpy()), rel=1e-6)


def test_by_hand_in_one_dimension() -> None:
    # (mu_a - mu_b)^2 + (sigma_a - sigma_b)^2 with mu = 1, 4 and sigma^2 = 2, 8 (unbiased): 9 + (sqrt 8 - sqrt 2)^2 = 11
    a = torch.tensor([[0.0], [2.0]])
    b = torch.tensor([[2.0], [6.0]])
    assert frechet_distance(a, b) == pytest.approx(11.0, rel=1e-9)


def test_same_set_is_zero_and_singular_covariances_are_fine() -> None:
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(1))
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-6)
    shifted = frechet_distance(x, x + 1)
    assert shifted == pytest.approx(40.0, rel=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "what"),
    [
        (torch.zeros(1, 3), torch.zeros(4, 3), "n >= 2"),
        (torch.zeros(4, 3), torch.zeros(4, 2), "one width"),
        (torch.zeros(4, 3), torch.full((4, 3), float("nan")), "finite"),
    ],
)
def test_refuses_what_has_no_distance(a: torch.Tensor, b: torch.Tensor, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        frechet_distance(a, b)
