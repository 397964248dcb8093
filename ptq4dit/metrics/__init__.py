"""How far apart two tensors or two pictures are; each is imported when it is first asked for."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptq4dit.metrics.image import psnr, ssim
    from ptq4dit.metrics.tensor import relative_error, sqnr

_MODULE_OF = {"psnr": "image", "relative_error": "tensor", "sqnr": "tensor", "ssim": "image"}

__all__ = ["psnr", "relative_error", "sqnr", "ssim"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ptq4dit.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ptq4dit.metrics.{_MODULE_OF[name]}"), name)
