"""What a call of a diffusion transformer says of itself: its timestep and how many rows it has."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

TIMESTEP_NAMES = ("timestep", "timesteps", "t")
"""What diffusers' transformers call the argument."""


def timestep_of(transformer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[float, bool]:
    """The timestep of a call, as the model is given it, and whether it is a whole number by type.

    Raises:
        ValueError: if there is none, it is not finite, or the rows have different ones.
    """
    given = named_arguments(transformer, args, kwargs)
    value = next((given[name] for name in TIMESTEP_NAMES if given.get(name) is not None), None)
    if value is None:
        raise ValueError(
            f"Expected a call of {type(transformer).__name__} with a timestep, got {sorted(given)}. Watch the "
            "denoising transformer of a pipeline."
        )
    values = torch.as_tensor(value).flatten()
    if not bool(torch.isfinite(values.double()).all()):
        raise ValueError(f"Expected a finite timestep, got {values.tolist()[:4]}.")
    if bool((values != values[0]).any()):
        raise ValueError(
            f"Expected one timestep for all rows of a call, got {values.unique().tolist()[:4]}. Call the model once "
            "for each timestep."
        )
    return float(values[0]), not values.is_floating_point()


def named_arguments(transformer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a call by name."""
    names = list(inspect.signature(type(transformer).forward).parameters)[1:]
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def rows_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Rows of the batch: of the first tensor that has several axes; a list of pictures counts its entries."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.ndim > 1:
            return len(value)
        if isinstance(value, list) and value and isinstance(value[0], Tensor):
            return len(value)
    return 1
