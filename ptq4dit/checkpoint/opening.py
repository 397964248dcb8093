"""Open whatever a source holds: a quantized checkpoint, or a float model."""

import os
from pathlib import Path
from typing import Any

import torch

from ptq4dit.checkpoint.manifest import KIND
from ptq4dit.checkpoint.packed import load_quantized
from ptq4dit.model import bundle
from ptq4dit.storage.folder import holds, recover


def load(
    source: Any, dtype: torch.dtype | str | None = None, device: str | torch.device | None = None, **options: Any
) -> bundle.Dit:
    """Load a model: a pipeline folder or hub id of any family, an official DiT file, or a quantized checkpoint.

    Args:
        source: what `ptq4dit.model.bundle.load` takes, or a folder that `save_quantized` wrote.
        dtype: floating type to load into; a checkpoint has its own.
        device: where to put the models; None for the CPU.
        options: further ones of `ptq4dit.model.bundle.load`.

    Raises:
        ValueError: if there is no such model, or a checkpoint is asked for in another type than its own.
    """
    if isinstance(source, str | os.PathLike):
        recover(Path(source))
        if holds(Path(source), KIND):
            return _quantized(source, dtype, device, options)
    given: dict[str, Any] = {name: value for name, value in (("dtype", dtype), ("device", device)) if value is not None}
    return bundle.load(source, **given, **options)


def _quantized(source: Any, dtype: Any, device: Any, options: dict[str, Any]) -> bundle.Dit:
    if unknown := sorted(name for name, value in options.items() if value is not None):
        raise ValueError(
            f"Expected no options for a quantized checkpoint, got {unknown}: it is loaded as it was saved."
        )
    model = load_quantized(source, device or "cpu")
    if dtype is not None and str(dtype).removeprefix("torch.") != str(model.dtype).removeprefix("torch."):
        raise ValueError(f"Expected dtype=None for a quantized checkpoint, got {dtype!r}: it is {model.dtype}.")
    return model
