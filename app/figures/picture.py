"""A picture of a few pixels as something that a page or a file can hold."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def png(pixels: NDArray[np.uint8]) -> bytes:
    """(height, width, 3) as the bytes of a PNG file, unchanged."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def data_uri(pixels: NDArray[np.uint8], enlarge: int = 4) -> str:
    """(height, width, 3) as a `data:` address for the page.

    Enlarged by Lanczos resampling, which keeps the edges of a 64-pixel picture clean where a browser would blur them;
    with `enlarge=1` every pixel stays as it is.
    """
    if enlarge == 1:
        return _address("png", png(pixels))
    height, width = pixels.shape[:2]
    large = Image.fromarray(pixels).resize((width * enlarge, height * enlarge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    large.save(buffer, format="webp", quality=90, method=1)
    return _address("webp", buffer.getvalue())


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
