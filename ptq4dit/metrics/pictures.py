"""Real pictures from a folder, cropped as reference sets for class-conditional ImageNet models are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def read_pictures(folder: Path, size: int, batch: int = 32) -> Iterator[Float[Tensor, "n 3 size size"]]:
    """All pictures below a folder, by name, the largest square in the middle of each scaled to ``size``.

    Args:
        folder: searched with its sub-folders for PNG, JPEG and WebP files.
        size: height and width.
        batch: at a time, the last time fewer.

    Yields:
        Values in [0, 1].

    Raises:
        ValueError: if there is no such folder, or no picture in it.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not files:
        raise ValueError(f"Expected a folder with PNG, JPEG or WebP pictures, got {str(folder)!r}, which has none.")
    for start in range(0, len(files), batch):
        yield torch.stack([_square(path, size) for path in files[start : start + batch]])


def _square(path: Path, size: int) -> Tensor:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            side = min(picture.size)
            left, top = (length - side for length in picture.size)
            middle = picture.convert("RGB").crop((left // 2, top // 2, left // 2 + side, top // 2 + side))
            square = middle.resize((size, size), Image.Resampling.BICUBIC)
    except OSError as error:
        raise ValueError(f"Expected a picture in {str(path)!r}, got a file that cannot be read: {error}") from error
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
