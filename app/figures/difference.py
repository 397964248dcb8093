"""Difference map of two pictures: where, and how far, one strays from the other."""

import numpy as np
from numpy.typing import NDArray

# Black over purple and orange to pale yellow: lightness rises evenly, so it reads in grey and for the colour-blind.
_RAMP = np.array(
    [
        (0, 0, 4),
        (40, 11, 84),
        (101, 21, 110),
        (159, 42, 99),
        (212, 72, 66),
        (245, 125, 21),
        (250, 193, 39),
        (252, 255, 164),
    ],
    dtype=np.float64,
)


def difference_map(picture: NDArray[np.uint8], reference: NDArray[np.uint8], gain: float = 4.0) -> NDArray[np.uint8]:
    """Colour ``min(1, gain * mean_channels |picture - reference| / 255)`` from black (equal) to pale yellow.

    Args:
        picture, reference: (height, width, 3), 0..255, of one shape.
        gain: > 0; a mean difference of ``255 / gain`` grey levels, and all above, gets the brightest colour.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ValueError: the shapes differ or ``gain`` is not positive.
    """
    if picture.shape != reference.shape:
        raise ValueError(f"difference map: expected two pictures of one shape, got {picture.shape}, {reference.shape}")
    if not gain > 0:
        raise ValueError(f"gain: expected a number above 0, got {gain}")
    distance = np.abs(picture.astype(np.float64) - reference.astype(np.float64)).mean(axis=-1) / 255
    position = np.clip(distance * gain, 0, 1) * (len(_RAMP) - 1)
    knots = np.arange(len(_RAMP))
    return np.stack([np.interp(position, knots, _RAMP[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)
