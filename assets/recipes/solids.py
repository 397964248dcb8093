"""The ten solids: signed distance functions (SDF) about their centres, negative inside.

Coordinates come as three float32 arrays of one shape, which numpy works through faster than rows of three.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array

Sdf = Callable[[Array, Array, Array], Array]  # x, y, z -> distance


def _sphere(x: Array, y: Array, z: Array) -> Array:
    return np.sqrt(x * x + y * y + z * z) - 0.85


def _box(x: Array, y: Array, z: Array, half: tuple[float, float, float], rounding: float) -> Array:
    a, b, c = (np.abs(axis) - (reach - rounding) for axis, reach in zip((x, y, z), half, strict=True))
    inside = np.minimum(np.maximum(np.maximum(a, b), c), 0)
    a, b, c = np.maximum(a, 0), np.maximum(b, 0), np.maximum(c, 0)
    return np.sqrt(a * a + b * b + c * c) + inside - rounding


def _cube(x: Array, y: Array, z: Array) -> Array:
    return _box(x, y, z, (0.68, 0.68, 0.68), 0.06)


def _cylinder(x: Array, y: Array, z: Array) -> Array:
    rounding = 0.06
    side, top = np.sqrt(x * x + z * z) - 0.6 + rounding, np.abs(y) - 0.8 + rounding
    inside = np.minimum(np.maximum(side, top), 0)
    side, top = np.maximum(side, 0), np.maximum(top, 0)
    return np.sqrt(side * side + top * top) + inside - rounding


def _cone(x: Array, y: Array, z: Array) -> Array:
    radius, height, rounding = 0.8, 1.6, 0.05  # apex at y = +height / 2
    slant = math.hypot(radius, height)
    side = (np.sqrt(x * x + z * z) * height + (y - height / 2) * radius) / slant
    return np.maximum(side, -height / 2 - y) - rounding


def _ring(x: Array, y: Array, z: Array, major: float, minor: float, rise: float = 0.0) -> Array:
    out, up = np.sqrt(x * x + z * z) - major, y - rise
    return np.sqrt(out * out + up * up) - minor


def _torus(x: Array, y: Array, z: Array) -> Array:
    return _ring(x, y, z, 0.74, 0.3)


def _capsule(x: Array, y: Array, z: Array) -> Array:
    along = np.maximum(np.abs(y) - 0.58, 0)
    return np.sqrt(x * x + along * along + z * z) - 0.44


def _octahedron(x: Array, y: Array, z: Array) -> Array:
    return (np.abs(x) + np.abs(y) + np.abs(z) - 1.06) / math.sqrt(3) - 0.03


def _tetrahedron(x: Array, y: Array, z: Array) -> Array:
    tilt, farthest = math.sqrt(8) / 3, -y
    for turn in (0.0, 2 * math.pi / 3, 4 * math.pi / 3):
        farthest = np.maximum(farthest, tilt * math.cos(turn) * x + y / 3 + tilt * math.sin(turn) * z)
    return farthest - 0.41


def _stack(x: Array, y: Array, z: Array) -> Array:
    lower = np.minimum(_ring(x, y, z, 0.62, 0.26, -0.52), _ring(x, y, z, 0.44, 0.23, -0.06))
    return np.minimum(lower, _ring(x, y, z, 0.26, 0.2, 0.33))


def _cross(x: Array, y: Array, z: Array) -> Array:
    long, thin = 0.9, 0.27
    arms = [(long, thin, thin), (thin, long, thin), (thin, thin, long)]
    first, second, third = (_box(x, y, z, half, 0.05) for half in arms)
    return np.minimum(np.minimum(first, second), third)


@dataclass(frozen=True)
class Solid:
    """One class of solid, at scale 1.

    height: how high its centre is when it stands on the floor; reach: how far it goes sideways; bound: the radius of a
    sphere about its centre that holds it.
    """

    sdf: Sdf
    height: float
    reach: float
    bound: float


SOLIDS: dict[str, Solid] = {
    "sphere": Solid(_sphere, 0.85, 0.85, 0.86),
    "cube": Solid(_cube, 0.68, 0.93, 1.16),
    "cylinder": Solid(_cylinder, 0.8, 0.6, 1.01),
    "cone": Solid(_cone, 0.85, 0.9, 1.24),
    "torus": Solid(_torus, 0.3, 1.04, 1.05),
    "capsule": Solid(_capsule, 1.02, 0.44, 1.03),
    "octahedron": Solid(_octahedron, 1.11, 1.11, 1.13),
    "tetrahedron": Solid(_tetrahedron, 0.41, 1.17, 1.24),
    "stacked rings": Solid(_stack, 0.78, 0.88, 1.08),
    "cross": Solid(_cross, 0.9, 0.94, 0.97),
}
CLASSES = tuple(SOLIDS)
