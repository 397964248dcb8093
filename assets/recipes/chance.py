"""Draw a scene at random: a function of (seed, index), in which everything that the words tell can be seen."""

from __future__ import annotations

import math

import numpy as np
from render import coverage
from scenes import COLOURS, FLOORS, MATERIALS, PLACES, SIZES, SKIES, Camera, Colour, Scene, Thing, Wording
from solids import CLASSES, SOLIDS

LEAST_AREA, LEAST_SHOWN = 0.008, 0.6
"""The least part of the picture that a thing takes, and of itself that it shows."""

SCALES = {"small": (0.6, 0.68), "large": (0.98, 1.1)}
SUN_RISE = {"at noon": (0.75, 1.1), "at sunset": (0.3, 0.45), "at night": (0.6, 0.95), "in fog": (0.9, 1.2)}


def shape_of(index: int) -> str:
    """The first shape of scene `index`: classes in turn, so that each has its share of singles and of pairs."""
    return CLASSES[index // 2 % len(CLASSES)]


def draw_scene(seed: int, index: int) -> Scene:
    """Scene `index` of the endless set `seed`: even ones hold one thing, odd ones two."""
    chance = np.random.default_rng((seed, index))
    while True:
        first = _draw_thing(chance, shape_of(index))
        scene = _draw_pair(chance, first) if index % 2 else _draw_single(chance, first)
        if all(part.area >= LEAST_AREA and part.shown >= LEAST_SHOWN and not part.cut for part in coverage(scene)):
            return scene


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    wheel = [(hue * 6 + shift) % 6 for shift in (5, 3, 1)]
    red, green, blue = (value - value * saturation * min(max(min(turn, 4 - turn), 0), 1) for turn in wheel)
    return red, green, blue


def _draw_thing(chance: np.random.Generator, shape: str) -> Thing:
    colour, material, size = (str(chance.choice(names)) for names in (tuple(COLOURS), MATERIALS, SIZES))
    bright = chance.uniform(0.93, 1.05)
    red, green, blue = (float(np.clip(part * bright + chance.uniform(-0.02, 0.02), 0, 1)) for part in COLOURS[colour])
    scale, turn = float(chance.uniform(*SCALES[size])), float(chance.uniform(0, 2 * math.pi))
    return Thing(
        shape=shape, colour=colour, material=material, size=size, scale=scale, tint=(red, green, blue), turn=turn
    )


def _put(thing: Thing, x: float, z: float) -> Thing:
    return Thing(**{**vars(thing), "x": float(x), "z": float(z)})


def _draw_single(chance: np.random.Generator, thing: Thing) -> Scene:
    thing = _put(thing, chance.uniform(-0.3, 0.3), chance.uniform(-0.2, 0.2))
    height = 0.62 * thing.scale * SOLIDS[thing.shape].height
    target = (0.0, height + float(chance.uniform(0.05, 0.3)), 0.0)
    camera = Camera(target=target, rise=float(chance.uniform(0.24, 0.48)), far=float(chance.uniform(4.4, 5.2)))
    return _draw_around(chance, (thing,), camera)


def _draw_pair(chance: np.random.Generator, first: Thing) -> Scene:
    second = _draw_thing(chance, str(chance.choice(CLASSES)))
    place = str(chance.choice(PLACES))
    if place in ("left of", "right of"):
        angle = chance.uniform(-0.35, 0.35) + (math.pi if place == "left of" else 0)
    else:
        lean = chance.uniform(0.25, 0.6) * chance.choice((-1, 1))
        angle = math.pi / 2 * (1 if place == "behind" else -1) + lean
    reach = sum(thing.scale * SOLIDS[thing.shape].reach for thing in (first, second))
    apart = (reach + chance.uniform(0.1, 0.5)) / 2
    middle = (chance.uniform(-0.15, 0.15), chance.uniform(-0.1, 0.1))
    x, z = apart * math.cos(angle), apart * math.sin(angle)
    things = (_put(first, middle[0] + x, middle[1] + z), _put(second, middle[0] - x, middle[1] - z))
    target = (0.0, 0.4 + float(chance.uniform(0.0, 0.2)), 0.0)
    camera = Camera(target=target, rise=float(chance.uniform(0.36, 0.58)), far=float(chance.uniform(5.5, 6.4)))
    return _draw_around(chance, things, camera)


def _draw_around(chance: np.random.Generator, things: tuple[Thing, ...], camera: Camera) -> Scene:
    floor, sky = str(chance.choice(FLOORS)), str(chance.choice(SKIES))
    hue, aside = float(chance.uniform(0, 1)), float(chance.uniform(0.5, 1.35) * chance.choice((-1, 1)))
    light = _hsv(hue, float(chance.uniform(0.02, 0.14)), float(chance.uniform(0.78, 0.92)))
    dark = _hsv(hue, float(chance.uniform(0.12, 0.36)), float(chance.uniform(0.34, 0.5)))
    say = chance.random(4) < (0.7, 0.7, 0.65, 0.65)
    return Scene(
        things=things,
        floor=floor,
        sky=sky,
        camera=camera,
        sun=(aside, float(chance.uniform(*SUN_RISE[sky]))),
        floor_colours=(light, dark),
        floor_turn=float(chance.uniform(0, math.pi / 2)),
        floor_shift=(float(chance.uniform(0, 2)), float(chance.uniform(0, 2))),
        wording=Wording(size=bool(say[0]), material=bool(say[1]), floor=bool(say[2]), sky=bool(say[3])),
    )
