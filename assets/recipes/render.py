"""Draw a scene: sphere tracing with soft shadows, contact shade, highlights and one reflection, anti-aliased.

Rays that miss a solid's bounding sphere are never traced, and only pixels on an edge are drawn with several rays, so
a picture of 128 x 128 takes a few hundredths of a second on one core.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy import ndarray as Array
from scenes import Scene, Thing
from surfaces import floor_colour, horizon_fog, look_of, sky_colour

SIZE = 128
HALF_VIEW = math.tan(math.radians(19))
FAR = np.float32(1e9)
STRIDE = 3  # steps between two looks at which rays are done
SUBPIXELS = np.array([(-0.375, 0.125), (-0.125, -0.375), (0.125, 0.375), (0.375, -0.125)], np.float32)


@dataclass(slots=True)
class Points:
    """Positions or directions of many rays: three float32 arrays (n,)."""

    x: Array
    y: Array
    z: Array

    def __getitem__(self, rows: Array) -> Points:
        return Points(self.x[rows], self.y[rows], self.z[rows])

    def __add__(self, other: Points) -> Points:
        return Points(self.x + other.x, self.y + other.y, self.z + other.z)

    def __mul__(self, factor: Array | float) -> Points:
        return Points(self.x * factor, self.y * factor, self.z * factor)

    def dot(self, other: Points) -> Array:
        return self.x * other.x + self.y * other.y + self.z * other.z

    def unit(self) -> Points:
        return self * (1 / np.sqrt(self.dot(self)))

    @staticmethod
    def all_at(place: tuple[float, float, float], n: int) -> Points:
        return Points(*(np.full(n, value, np.float32) for value in place))


class Body:
    """A thing in the world: distances to it, rays that meet it, the shadow it casts."""

    def __init__(self, thing: Thing):
        self.thing, self.sdf = thing, thing.solid.sdf
        self.centre = tuple(np.float32(value) for value in thing.centre)
        self.scale, self.bound = np.float32(thing.scale), np.float32(thing.scale * thing.solid.bound)
        self.cos, self.sin = np.float32(math.cos(thing.turn)), np.float32(math.sin(thing.turn))

    def local(self, p: Points) -> Points:
        """Positions in the solid's own units, about its centre."""
        x, y, z = ((value - middle) / self.scale for value, middle in zip((p.x, p.y, p.z), self.centre, strict=True))
        return Points(x * self.cos - z * self.sin, y, x * self.sin + z * self.cos)

    def local_ray(self, ray: Points) -> Points:
        """Steps in the solid's own units for one step along a ray in the world."""
        x, y, z = ray.x / self.scale, ray.y / self.scale, ray.z / self.scale
        return Points(x * self.cos - z * self.sin, y, x * self.sin + z * self.cos)

    def distance(self, p: Points) -> Array:
        own = self.local(p)
        return self.sdf(own.x, own.y, own.z) * self.scale

    def span(self, origin: Points, ray: Points, margin: float = 1.0) -> tuple[Array, Array]:
        """Where each ray enters and leaves the bounding sphere; it leaves at -1 when it misses."""
        x, y, z = (value - middle for value, middle in zip((origin.x, origin.y, origin.z), self.centre, strict=True))
        middle = -(x * ray.x + y * ray.y + z * ray.z)
        reach2 = np.float32((self.bound * margin) ** 2) - (x * x + y * y + z * z) + middle * middle
        half = np.sqrt(np.maximum(reach2, 0))
        return np.maximum(middle - half, 0), np.where(reach2 > 0, middle + half, np.float32(-1))

    def trace(self, origin: Points, ray: Points, rounds: int = 16) -> Array:
        """Distance along each ray to the surface, FAR where it misses: (n,)."""
        start, end = self.span(origin, ray)
        found = np.full(start.shape, FAR, np.float32)
        rows = np.flatnonzero(end > start)
        t, end, p, step = start[rows], end[rows], self.local(origin[rows]), self.local_ray(ray[rows])
        for _ in range(rounds):
            if not len(rows):
                break
            for _ in range(STRIDE):
                gap = self.sdf(p.x + step.x * t, p.y + step.y * t, p.z + step.z * t) * self.scale
                t = t + gap
            done = gap < 3e-3
            found[rows[done]] = t[done]
            keep = np.flatnonzero(~done & (t < end))
            rows, t, end, p, step = rows[keep], t[keep], end[keep], p[keep], step[keep]
        return found

    def normal(self, p: Points) -> Points:
        total = Points(*(np.zeros_like(p.x) for _ in range(3)))
        for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            offset = Points(*(np.float32(side) for side in corner))
            total = total + offset * self.distance(p + offset * np.float32(2e-3))
        return total.unit()

    def light_past(self, p: Points, light: Points, rounds: int = 7, softness: float = 10.0) -> Array:
        """How much of the light's rays reach p: 1 lit, 0 in full shadow, between them in the penumbra."""
        start, end = self.span(p, light, margin=1.25)
        lit = np.ones_like(start)
        rows = np.flatnonzero(end > np.maximum(start, 0.03))
        t, end, p, step = (
            np.maximum(start[rows], np.float32(0.03)),
            end[rows],
            self.local(p[rows]),
            self.local_ray(light),
        )
        seen = np.ones_like(t)
        for _ in range(rounds):
            if not len(rows):
                break
            for _ in range(STRIDE):
                gap = self.sdf(p.x + step.x * t, p.y + step.y * t, p.z + step.z * t) * self.scale
                seen = np.minimum(seen, softness * gap / t)
                t = t + np.minimum(np.maximum(gap, np.float32(0.03)), np.float32(0.3))
            lit[rows] = seen
            keep = np.flatnonzero((seen > 0.01) & (t < end))
            rows, t, end, p, seen = rows[keep], t[keep], end[keep], p[keep], seen[keep]
        lit = np.maximum(lit, 0)
        return lit * lit * (3 - 2 * lit)


class World:
    """A scene ready to be asked what any ray sees."""

    def __init__(self, scene: Scene):
        self.scene, self.look = scene, look_of(scene)
        self.bodies = [Body(thing) for thing in scene.things]
        camera = scene.camera
        x, y, z = camera.target
        self.eye = (x, y + camera.far * math.sin(camera.rise), z - camera.far * math.cos(camera.rise))
        self.light = Points(*(np.float32(value) for value in self.look.light))

    def rays(self, right: Array, up: Array) -> Points:
        """Unit directions of rays through the picture, whose plane reaches from -1 to 1 both ways."""
        rise = self.scene.camera.rise
        across, over = right * np.float32(HALF_VIEW), up * np.float32(HALF_VIEW)
        cos, sin = np.float32(math.cos(rise)), np.float32(math.sin(rise))
        return Points(across, over * cos - sin, over * sin + cos).unit()

    def first_hit(self, origin: Points, ray: Points) -> tuple[Array, Array]:
        """Distance to what a ray meets first, and which: 0 the sky, 1 the floor, 2 and 3 the bodies."""
        down = np.minimum(ray.y, np.float32(-1e-4))
        nearest = np.where(ray.y < -1e-4, -origin.y / down, FAR)
        which = (nearest < FAR).astype(np.int8)
        for number, body in enumerate(self.bodies, start=2):
            along = body.trace(origin, ray)
            closer = along < nearest
            nearest, which = np.where(closer, along, nearest), np.where(closer, np.int8(number), which)
        return nearest, which

    def radiance(self, origin: Points, ray: Points, bounces: int) -> tuple[Array, Array]:
        """Linear light (n, 3) that comes back along each ray, and what the ray met first (n,)."""
        along, which = self.first_hit(origin, ray)
        colour = np.empty((len(along), 3), np.float32)
        rows = np.flatnonzero(which == 0)
        colour[rows] = sky_colour(self.look, ray.y[rows], self.toward_light(ray[rows]))
        rows = np.flatnonzero(which == 1)
        colour[rows] = self.floor(origin[rows] + ray[rows] * along[rows], ray[rows], along[rows], bounces)
        for number, body in enumerate(self.bodies, start=2):
            rows = np.flatnonzero(which == number)
            colour[rows] = self.surface(body, origin[rows] + ray[rows] * along[rows], ray[rows], bounces)
        return colour, which

    def toward_light(self, ray: Points) -> Array:
        return np.maximum(ray.dot(self.light), 0)

    def lit(self, p: Points) -> Array:
        """How much of the sun reaches p past all bodies: (n,)."""
        lit = np.ones_like(p.x)
        for body in self.bodies:
            lit *= body.light_past(p, self.light)
        return lit

    def openness(self, p: Points) -> Array:
        """How much of the sky a point of the floor sees past the bodies that stand near it: (n,)."""
        open_sky = np.ones_like(p.x)
        for body in self.bodies:
            x, z = p.x - body.centre[0], p.z - body.centre[2]
            rows = np.flatnonzero(x * x + z * z < (body.bound + 0.8) ** 2)
            open_sky[rows] *= np.clip(0.3 + 0.95 * body.distance(p[rows]), 0, 1)
        return open_sky

    def floor(self, p: Points, ray: Points, along: Array, bounces: int) -> Array:
        look = self.look
        base = floor_colour(self.scene, p.x, p.z, along)
        direct = self.lit(p) * self.light.y if bounces else np.full_like(along, self.light.y)
        colour = base * (look.ambient * self.openness(p)[:, None] + look.sunlight * direct[:, None])
        if bounces and self.scene.floor == "polished":
            facing = np.clip(1 + ray.y, 0, 1)
            strength = (0.16 + 0.6 * facing**4)[:, None]
            mirrored, _ = self.radiance(p, Points(ray.x, -ray.y, ray.z), bounces - 1)
            colour = colour * (1 - strength) + mirrored * strength
        fog = horizon_fog(look, along)[:, None]
        return colour + (look.horizon - colour) * fog

    def surface(self, body: Body, p: Points, ray: Points, bounces: int) -> Array:
        look, thing = self.look, body.thing
        tint = np.float32(thing.tint) ** 2.2
        normal = body.normal(p)
        away = p + normal * np.float32(0.015)
        facing = np.maximum(normal.dot(self.light), 0)
        direct = facing * self.lit(away) if bounces else facing
        upward = (0.5 + 0.5 * normal.y)[:, None]
        contact = np.clip(0.4 + p.y * 1.3, 0, 1)[:, None]
        around = (look.bounce + (look.ambient - look.bounce) * upward) * contact
        diffuse = tint * (around + look.sunlight * direct[:, None])
        if thing.material == "matte":
            return diffuse
        slope = normal.dot(ray)
        mirror = (ray + normal * (-2 * slope)).unit()
        shine = self.toward_light(mirror)[:, None]
        fresnel = np.clip(1 + slope, 0, 1)[:, None] ** 5
        sun = look.sunlight * (direct > 0.02)[:, None]
        seen = self.radiance(away, mirror, bounces - 1)[0] if bounces else self.plain(mirror)
        if thing.material == "glossy":
            return diffuse + (0.09 + 0.5 * fresnel) * (seen - diffuse) + 1.2 * sun * shine**90
        tint = np.maximum(tint, np.float32(0.05))  # black metal is dark chrome
        return (tint + (1 - tint) * fresnel) * (0.92 * seen + 0.1 * around) + 1.6 * sun * (0.3 + 0.7 * tint) * shine**60

    def plain(self, ray: Points) -> Array:
        """Sky and floor alone, for reflections in reflections."""
        colour = sky_colour(self.look, np.maximum(ray.y, 0), self.toward_light(ray))
        below = np.clip(-ray.y * 6, 0, 1)[:, None]
        ground = np.float32(self.scene.floor_colours).mean(axis=0) ** 2.2 * (
            self.look.ambient + 0.5 * self.look.sunlight
        )
        return colour + (ground - colour) * below


def _pixel_centres(size: int) -> tuple[Array, Array]:
    axis = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) / size) * 2 - 1
    up, right = np.meshgrid(-axis, axis, indexing="ij")
    return right.ravel(), up.ravel()


def _on_edges(picture: Array, which: Array, reflects: bool) -> Array:
    """Pixels (size, size) that differ from a neighbour in what they show, or in how a body or a mirror looks."""
    body = which > 1
    edge = np.zeros(which.shape, bool)
    for axis in (0, 1):
        here = [slice(None)] * 2
        there = [slice(None)] * 2
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(here), tuple(there)
        contrast = np.abs(picture[a] - picture[b]).max(axis=-1) > 0.07
        differs = (which[a] != which[b]) | (contrast & (body[a] | body[b] | reflects))
        edge[a] |= differs
        edge[b] |= differs
    return edge


def _screen(light: Array) -> Array:
    """Linear light to screen values: bright light rolls off instead of clipping."""
    rolled = np.where(light > 0.7, 0.7 + 0.3 * (1 - np.exp(-(light - 0.7) / 0.3)), light)
    return np.maximum(rolled, 0) ** np.float32(1 / 2.2)


def render(scene: Scene, size: int = SIZE) -> Array:
    """The scene's picture: uint8 (3, size, size)."""
    world = World(scene)
    right, up = _pixel_centres(size)
    eye = Points.all_at(world.eye, size * size)
    light, which = world.radiance(eye, world.rays(right, up), bounces=1)
    picture = _screen(light)
    edge = _on_edges(picture.reshape(size, size, 3), which.reshape(size, size), scene.floor == "polished").ravel()
    rows = np.flatnonzero(edge)
    shift = SUBPIXELS * (2 / size)
    rays = world.rays((right[rows, None] + shift[:, 0]).ravel(), (up[rows, None] + shift[:, 1]).ravel())
    light, _ = world.radiance(Points.all_at(world.eye, len(rays.x)), rays, bounces=1)
    picture[rows] = _screen(light).reshape(len(rows), len(SUBPIXELS), 3).mean(axis=1)
    out = (picture.reshape(size, size, 3) * 255).round().clip(0, 255).astype(np.uint8).transpose(2, 0, 1)
    return np.ascontiguousarray(out[:, :, ::-1] if scene.mirrored else out)


@dataclass(frozen=True)
class Coverage:
    """Of one thing: the part of the picture that it takes, the part of itself that shows, and whether it is cut off."""

    area: float
    shown: float
    cut: bool


def coverage(scene: Scene, size: int = 40) -> list[Coverage]:
    """How well each thing can be seen, on a coarse grid of rays."""
    world = World(scene)
    eye, rays = Points.all_at(world.eye, size * size), world.rays(*_pixel_centres(size))
    depths = np.stack([body.trace(eye, rays) for body in world.bodies])
    parts = []
    for number, depth in enumerate(depths):
        all_of_it = depth < FAR
        seen = all_of_it & (depths.argmin(axis=0) == number)
        frame = all_of_it.reshape(size, size)
        cut = bool(frame[0].any() or frame[-1].any() or frame[:, 0].any() or frame[:, -1].any())
        parts.append(Coverage(float(seen.mean()), float(seen.sum() / max(all_of_it.sum(), 1)), cut))
    return parts
