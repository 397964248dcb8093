"""Distance between pictures of the same scene: PSNR and SSIM, one value per picture."""

import torch
from jaxtyping import Float
from torch import Tensor

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def psnr(
    a: Float[Tensor, "image channel height width"], b: Float[Tensor, "image channel height width"]
) -> Float[Tensor, " image"]:
    """Peak signal to noise ratio in dB, ``-10 log10(mean((a - b)^2))`` for values in [0, 1].

    Returns:
        ``(n,)``; infinity for identical pictures.
    """
    return -10 * torch.log10((a - b).square().mean(dim=(1, 2, 3)))


def ssim(
    a: Float[Tensor, "image channel height width"], b: Float[Tensor, "image channel height width"]
) -> Float[Tensor, " image"]:
    """Structural similarity (Wang et al. 2004): Gaussian window 11x11 with sigma 1.5, K = (0.01, 0.03), range 1.

    The index is computed per colour channel, where the window fits entirely, and averaged.

    Args:
        a, b: values in [0, 1], at least 11 pixels in height and width.

    Returns:
        ``(n,)`` in [-1, 1]; 1 for identical pictures.

    Raises:
        ValueError: if the pictures are smaller than the window.
    """
    if min(a.shape[-2:]) < _WINDOW:
        raise ValueError(f"Expected pictures of at least {_WINDOW}x{_WINDOW} pixels, got {tuple(a.shape[-2:])}.")
    a, b = a.double(), b.double()
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a, variance_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _blur(x: Tensor) -> Tensor:
    distance = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - _WINDOW // 2
    kernel = torch.exp(-(distance**2) / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()
    flat = x.flatten(0, 1)[:, None]
    rows = torch.nn.functional.conv2d(flat, kernel[None, None, :, None])
    return torch.nn.functional.conv2d(rows, kernel[None, None, None, :]).unflatten(0, x.shape[:2])[:, :, 0]
