"""How far apart two tensors or two pictures are."""

from ptq4dit.metrics.image import psnr, ssim
from ptq4dit.metrics.tensor import relative_error, sqnr

__all__ = ["psnr", "relative_error", "sqnr", "ssim"]
