"""What light and ground are like in a scene: skies, floors and fog, as colours in linear light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from scenes import Colour, Scene


@dataclass(frozen=True)
class Sky:
    """Screen colours of one sky; sun: how strong and of what colour the direct light is."""

    horizon: Colour
    zenith: Colour
    sunlight: Colour
    ambient: Colour
    glow: float
    fog_from: float
    fog_over: float


SKIES: dict[str, Sky] = {
    "at noon": Sky((0.86, 0.93, 0.98), (0.24, 0.50, 0.86), (1.00, 0.97, 0.91), (0.62, 0.68, 0.76), 0.25, 6, 7),
    "at sunset": Sky((1.00, 0.70, 0.42), (0.47, 0.38, 0.66), (1.00, 0.84, 0.66), (0.68, 0.60, 0.66), 0.50, 6, 7),
    "at night": Sky((0.22, 0.27, 0.47), (0.04, 0.05, 0.15), (0.80, 0.86, 1.00), (0.44, 0.47, 0.60), 0.15, 5.6, 7),
    "in fog": Sky((0.85, 0.86, 0.88), (0.80, 0.82, 0.85), (0.62, 0.62, 0.62), (0.86, 0.87, 0.88), 0.00, 4.6, 4.2),
}


@dataclass(frozen=True)
class Look:
    """A scene's light in linear colours (3,); `bounce` is what the floor throws back up."""

    light: tuple[float, float, float]
    horizon: Array
    zenith: Array
    sunlight: Array
    ambient: Array
    bounce: Array
    glow: float
    fog_from: float
    fog_over: float


def _linear(colour: Colour) -> Array:
    return np.float32(colour) ** np.float32(2.2)


def look_of(scene: Scene) -> Look:
    sky = SKIES[scene.sky]
    aside, rise = scene.sun
    light = (math.sin(aside) * math.cos(rise), math.sin(rise), -math.cos(aside) * math.cos(rise))
    ambient = _linear(sky.ambient)
    ground = np.mean([_linear(colour) for colour in scene.floor_colours], axis=0)
    return Look(
        light=light,
        horizon=_linear(sky.horizon),
        zenith=_linear(sky.zenith),
        sunlight=1.1 * _linear(sky.sunlight),
        ambient=ambient,
        bounce=np.float32(ground * (0.5 * ambient + 0.35 * _linear(sky.sunlight))),
        glow=sky.glow,
        fog_from=sky.fog_from,
        fog_over=sky.fog_over,
    )


def sky_colour(look: Look, rise: Array, toward_light: Array) -> Array:
    """Linear colour (n, 3) of the sky where a ray's y is `rise`."""
    mix = np.sqrt(np.clip(rise * 2.2, 0, 1))[:, None]
    glow = look.glow * (toward_light**8)[:, None] * look.sunlight
    return look.horizon + (look.zenith - look.horizon) * mix + glow


def horizon_fog(look: Look, along: Array) -> Array:
    """How much of the horizon's colour lies over what is `along` away: (n,) in [0, 1]."""
    return 1 - np.exp(-(np.maximum((along - look.fog_from) / look.fog_over, 0) ** 2))


def _soft_square(u: Array, width: Array) -> Array:
    """A wave of period 2 between -1 and 1, averaged over `width` so that it fades instead of flickering."""
    ramp = lambda x: np.abs(x / 2 - np.floor(x / 2) - 0.5)  # noqa: E731
    return 2 * (ramp(u - width / 2) - ramp(u + width / 2)) / width


def _soft_line(u: Array, width: Array, thick: float) -> Array:
    """1 on lines of `thick` at whole numbers, 0 between them, averaged over `width`."""
    below = lambda x: np.floor(x) * thick + np.minimum(x - np.floor(x), thick)  # noqa: E731
    u = u + thick / 2
    return (below(u + width / 2) - below(u - width / 2)) / width


def floor_colour(scene: Scene, x: Array, z: Array, along: Array) -> Array:
    """Linear colour (n, 3) of the bare floor at (x, z), `along` away from the eye."""
    cos, sin = math.cos(scene.floor_turn), math.sin(scene.floor_turn)
    u = x * np.float32(cos) - z * np.float32(sin) + np.float32(scene.floor_shift[0])
    v = x * np.float32(sin) + z * np.float32(cos) + np.float32(scene.floor_shift[1])
    light, dark = (_linear(colour) for colour in scene.floor_colours)
    width = along * np.float32(0.0085)
    if scene.floor == "checkered":
        mix = 0.5 - 0.5 * _soft_square(0.62 * u, 0.62 * width) * _soft_square(0.62 * v, 0.62 * width)
    elif scene.floor == "striped":
        mix = 0.5 - 0.5 * _soft_square(0.9 * u, 0.9 * width)
    elif scene.floor == "tiled":
        lines = 1 - (1 - _soft_line(0.55 * u, 0.55 * width, 0.07)) * (1 - _soft_line(0.55 * v, 0.55 * width, 0.07))
        mix = 1 - lines
    else:
        mix = np.full_like(u, 0.5)
    return dark + (light - dark) * np.clip(mix, 0, 1)[:, None]
