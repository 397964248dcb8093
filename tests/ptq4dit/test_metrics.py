import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ptq4dit.metrics import psnr, relative_error, sqnr, ssim


def pictures(n=3, size=24, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def scipy_ssim(a, b):
    """Wang et al. with scipy's own Gaussian filter (radius 5), cropped to where the window fits, one channel."""

    def blur(x):
        return gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()


def test_ssim_equals_scipy():
    a, b = pictures(), (pictures() + 0.2 * pictures(seed=1)).clamp(0, 1)
    expected = [
        np.mean([scipy_ssim(x.double().numpy(), y.double().numpy()) for x, y in zip(*p, strict=True)])
        for p in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b).numpy(), expected, rtol=1e-10)


def test_identical_pictures():
    a = pictures()
    torch.testing.assert_close(ssim(a, a), torch.ones(3, dtype=torch.float64))
    assert psnr(a, a).tolist() == [math.inf] * 3


def test_psnr_by_hand():
    a = torch.zeros(2, 3, 4, 4)
    b = torch.stack([torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 1.0)])
    torch.testing.assert_close(psnr(a, b), torch.tensor([20.0, 0.0]))


def test_metrics_are_per_picture():
    a, b = pictures(), pictures(seed=1)
    for metric in (psnr, ssim):
        together, alone = metric(a, b), torch.cat([metric(a[i : i + 1], b[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(together, alone)


def test_ssim_refuses_tiny_pictures():
    with pytest.raises(ValueError, match="at least 11x11 pixels, got \\(8, 8\\)"):
        ssim(pictures(size=8), pictures(size=8))


def test_relative_error_by_hand():
    exact, approximate = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])
    assert relative_error(exact, approximate) == 0.01
    assert sqnr(exact, approximate) == 20.0
    assert relative_error(exact, exact) == 0 and sqnr(exact, exact) == math.inf
    assert relative_error(torch.zeros(2), exact) == math.inf and relative_error(torch.zeros(2), torch.zeros(2)) == 0
