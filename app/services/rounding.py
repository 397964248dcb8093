"""How every layer's weight is rounded at every bit-width: worked out ahead for the demo model, here for any other.

``assets/recipes/rounding.py`` stores what takes long to find: how far the range of each weight row is clipped, and the
errors that follow. Both are used only with the very calibration that they were made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.balancing import WAYS
from app.services.cache import shared
from app.services.loading import calibration_file
from app.services.result_files import model_results, result_file

if TYPE_CHECKING:
    from torch import Tensor

    from ptq4dit.config.quantization import LayerConfig

COMMAND = "python assets/recipes/rounding.py"
ABOUT, ARRAYS = "rounding.json", "rounding.npz"
WHOLE = 50  # a clipping of so many fiftieths leaves the range as it is


def weight_grid(
    model: str, layer: str, weight: Tensor, settings: LayerConfig, variant: str, strength: int
) -> tuple[Tensor, Tensor]:
    """Scale and zero point (d_out, 1) of a layer's balanced weight: from the stored clipping, else searched here."""
    from ptq4dit.quantized.weight import weight_grid as searched

    stored = _arrays(model).get(f"x{strength}/W{settings.weight_bits}/{variant}/{layer}")
    return searched(weight, settings) if stored is None else clipped_grid(weight, settings, stored)


def clipped_grid(weight: Tensor, settings: LayerConfig, fiftieths: np.ndarray) -> tuple[Tensor, Tensor]:
    """The grid of a weight (d_out, d_in) whose ranges are clipped to (2, d_out) fiftieths: lower ends, upper ends."""
    import torch

    from ptq4dit.numerics.affine import affine_from_range, value_range
    from ptq4dit.quantized.weight import weight_spec

    spec = weight_spec(settings)
    low, high = value_range(weight[:, None], spec)
    shares = torch.from_numpy(fiftieths / WHOLE).to(low.dtype)[..., None, None]
    scale, zero_point = affine_from_range(low * shares[0], high * shares[1], spec)
    return scale.squeeze(-1), zero_point.squeeze(-1) - spec.qmin


def stored_errors(
    model: str, weight_bits: int, activation_bits: int, strength: int
) -> Mapping[str, Mapping[str, float]] | None:
    """Layer -> way of balancing -> relative error of its output, simulated, nan for none; None where not stored."""
    found = _arrays(model).get(f"errors/x{strength}/W{weight_bits}A{activation_bits}")
    if found is None:
        return None
    return {
        layer: dict(zip(WAYS, map(float, row), strict=True))
        for layer, row in zip(_about(model)["layers"], found, strict=True)
    }


def calibration_digest(file: Path) -> str:
    """What tells a calibration from any other, and with it the model that it belongs to."""
    return blake2b(file.read_bytes(), digest_size=16).hexdigest()


@shared(maxsize=4)
def _about(model: str) -> dict[str, Any]:
    """What the stored arrays are about; nothing where that is not this model."""
    try:
        content, file = model_results(model, ABOUT, COMMAND), calibration_file(model)
    except ValueError:
        return {}
    same = file is not None and content["made"].get("calibration") == calibration_digest(file)
    return content if same else {}


@shared(maxsize=4)
def _arrays(model: str) -> dict[str, np.ndarray]:
    """What is stored; nothing where it is another model's.

    "x8/W4/csb/blocks.0.fc1": (2, d_out) fiftieths; "errors/x8/W4A8": (layer, way of balancing).
    """
    arrays = result_file(model, ARRAYS)
    if arrays is None or not _about(model):
        return {}
    with np.load(arrays) as file:
        return dict(file)
