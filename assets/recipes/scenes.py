"""Render the demo model's world: one shaded solid on a checkered floor under a sky, 64x64 RGB.

Every picture is a function of (class, seed): a solid described by its signed distance function (SDF), sphere-traced
with soft shadows, ambient occlusion and a highlight, 2x2 supersampled. Rays that cannot meet the solid's bounding
sphere are never traced, so a picture takes a few milliseconds on one core.

    python assets/recipes/scenes.py --count 40000 --seed 0 --out .build/train.npz
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SIZE = 64
SUPERSAMPLE = 2
BOUND = 1.3  # every unit solid fits in a sphere of this radius around its centre

Sdf = Callable[[Tensor], Tensor]  # (points, 3) -> (points,)


def _sphere(p: Tensor) -> Tensor:
    return p.norm(dim=-1) - 0.85


def _box(p: Tensor, half: tuple[float, float, float], rounding: float) -> Tensor:
    q = p.abs() - (p.new_tensor(half) - rounding)
    return q.clamp_min(0).norm(dim=-1) + q.amax(dim=-1).clamp_max(0) - rounding


def _cube(p: Tensor) -> Tensor:
    return _box(p, (0.68, 0.68, 0.68), 0.05)


def _cylinder(p: Tensor) -> Tensor:
    rounding = 0.05
    q = torch.stack([p[:, [0, 2]].norm(dim=-1) - 0.6 + rounding, p[:, 1].abs() - 0.8 + rounding], dim=-1)
    return q.clamp_min(0).norm(dim=-1) + q.amax(dim=-1).clamp_max(0) - rounding


def _cone(p: Tensor) -> Tensor:
    radius, height = 0.85, 1.7  # apex at y = +height / 2
    slant = math.hypot(radius, height)
    side = (p[:, [0, 2]].norm(dim=-1) * height + (p[:, 1] - height / 2) * radius) / slant
    return torch.maximum(side, -height / 2 - p[:, 1])


def _ring(p: Tensor, major: float, minor: float, y: float = 0.0) -> Tensor:
    return torch.hypot(p[:, [0, 2]].norm(dim=-1) - major, p[:, 1] - y) - minor


def _torus(p: Tensor) -> Tensor:
    return _ring(p, 0.74, 0.3)


def _capsule(p: Tensor) -> Tensor:
    return torch.stack([p[:, 0], p[:, 1] - p[:, 1].clamp(-0.58, 0.58), p[:, 2]], dim=-1).norm(dim=-1) - 0.44


def _octahedron(p: Tensor) -> Tensor:
    return (p.abs().sum(dim=-1) - 1.1) / math.sqrt(3)


def _tetrahedron(p: Tensor) -> Tensor:
    turns = [2 * math.pi * k / 3 for k in range(3)]
    tilt = math.sqrt(8) / 3
    sides = [(tilt * math.cos(a), 1 / 3, tilt * math.sin(a)) for a in turns]
    return (p @ p.new_tensor([(0.0, -1.0, 0.0), *sides]).T).amax(dim=-1) - 0.41


def _stack(p: Tensor) -> Tensor:
    rings = [_ring(p, 0.62, 0.26, -0.52), _ring(p, 0.44, 0.23, -0.06), _ring(p, 0.26, 0.2, 0.33)]
    return torch.stack(rings).amin(dim=0)


def _cross(p: Tensor) -> Tensor:
    long, thin = 0.9, 0.27
    arms = [(long, thin, thin), (thin, long, thin), (thin, thin, long)]
    return torch.stack([_box(p, half, 0.04) for half in arms]).amin(dim=0)


@dataclass(frozen=True)
class Solid:
    """One class: its SDF about its centre, and how high the centre is when it stands on the floor."""

    sdf: Sdf
    height: float


SOLIDS: dict[str, Solid] = {
    "sphere": Solid(_sphere, 0.85),
    "cube": Solid(_cube, 0.68),
    "cylinder": Solid(_cylinder, 0.8),
    "cone": Solid(_cone, 0.85),
    "torus": Solid(_torus, 0.3),
    "capsule": Solid(_capsule, 1.02),
    "octahedron": Solid(_octahedron, 1.1),
    "tetrahedron": Solid(_tetrahedron, 0.41),
    "stacked rings": Solid(_stack, 0.78),
    "cross": Solid(_cross, 0.9),
}
CLASSES = tuple(SOLIDS)


@dataclass(frozen=True)
class Scenes:
    """What is drawn at random for each of n pictures; every field is (n,) or (n, 3)."""

    scale: Tensor
    turn: Tensor
    eye: Tensor
    target: Tensor
    light: Tensor
    colour: Tensor
    floor_light: Tensor
    floor_dark: Tensor
    floor_turn: Tensor
    floor_shift: Tensor
    horizon: Tensor
    zenith: Tensor


def _hsv(h: Tensor, s: Tensor, v: Tensor) -> Tensor:
    wheel = (h[:, None] * 6 + h.new_tensor([5.0, 3.0, 1.0])) % 6
    return v[:, None] * (1 - s[:, None] * torch.minimum(wheel, 4 - wheel).clamp(0, 1))


def draw_scenes(n: int, height: float, generator: torch.Generator) -> Scenes:
    """Draw n random scenes for a solid whose centre stands at `height` (in units of its scale)."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    scale = uniform(0.8, 1.12)
    azimuth, rise, far = uniform(-0.35, 0.35), uniform(0.26, 0.5), uniform(4.4, 5.2)
    around = torch.stack([azimuth.sin() * rise.cos(), rise.sin(), -azimuth.cos() * rise.cos()], dim=-1)
    target = torch.stack(
        [uniform(-0.28, 0.28), scale * height * 0.75 + uniform(-0.05, 0.3), uniform(-0.1, 0.1)], dim=-1
    )
    sun, sun_rise = uniform(0.75, 1.5) * uniform(-1, 1).sign(), uniform(0.6, 0.95)
    light = torch.stack([sun.sin() * sun_rise.cos(), sun_rise.sin(), -sun.cos() * sun_rise.cos()], dim=-1)
    tint = uniform(0, 1)
    sky = uniform(0.5, 0.68)  # cyan to violet-blue
    return Scenes(
        scale=scale,
        turn=uniform(0, 2 * math.pi),
        eye=target + around * far[:, None],
        target=target,
        light=light,
        colour=_hsv(uniform(0, 1), uniform(0.62, 0.95), uniform(0.75, 0.98)),
        floor_light=_hsv(tint, uniform(0.02, 0.16), uniform(0.78, 0.9)),
        floor_dark=_hsv(tint, uniform(0.1, 0.35), uniform(0.36, 0.5)),
        floor_turn=uniform(0, math.pi / 2),
        floor_shift=torch.stack([uniform(0, 2), uniform(0, 2)], dim=-1),
        horizon=_hsv(uniform(0.02, 0.14), uniform(0.05, 0.3), uniform(0.9, 1.0)),
        zenith=_hsv(sky, uniform(0.4, 0.7), uniform(0.6, 0.9)),
    )


def _rays(scenes: Scenes, size: int) -> Tensor:
    """Unit directions of all pixels' rays: (n, size * size, 3)."""
    forward = torch.nn.functional.normalize(scenes.target - scenes.eye, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward.new_tensor([[0.0, 1.0, 0.0]]), forward), dim=-1)
    up = torch.linalg.cross(forward, right)
    axis = ((torch.arange(size) + 0.5) / size * 2 - 1) * math.tan(math.radians(19))
    y, x = torch.meshgrid(-axis, axis, indexing="ij")
    flat = x.reshape(1, -1, 1) * right[:, None] + y.reshape(1, -1, 1) * up[:, None] + forward[:, None]
    return torch.nn.functional.normalize(flat, dim=-1)


def _rotate(xz: Tensor, angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([xz[:, 0] * cos - xz[:, 1] * sin, xz[:, 0] * sin + xz[:, 1] * cos], dim=-1)


class _Tracer:
    """Distance, tracing, normals and shadows of one solid in n scenes; `image` says which scene a point is in."""

    def __init__(self, solid: Solid, scenes: Scenes):
        self.solid, self.scenes = solid, scenes
        zero = torch.zeros_like(scenes.scale)
        self.centre = torch.stack([zero, scenes.scale * solid.height, zero], dim=-1)

    def distance(self, p: Tensor, image: Tensor) -> Tensor:
        scale = self.scenes.scale[image]
        local = (p - self.centre[image]) / scale[:, None]
        xz = _rotate(local[:, [0, 2]], self.scenes.turn[image])
        return self.solid.sdf(torch.stack([xz[:, 0], local[:, 1], xz[:, 1]], dim=-1)) * scale

    def span(self, origin: Tensor, ray: Tensor, image: Tensor, margin: float = 1.0) -> tuple[Tensor, Tensor]:
        """Where a ray enters and leaves the bounding sphere; enter > leave when it misses."""
        offset = origin - self.centre[image]
        middle = -(offset * ray).sum(-1)
        reach2 = (BOUND * margin * self.scenes.scale[image]) ** 2 - (offset**2).sum(-1) + middle**2
        half = reach2.clamp_min(0).sqrt()
        missed = (reach2 <= 0) | (middle + half <= 0)
        return (middle - half).clamp_min(0), torch.where(missed, torch.full_like(half, -1.0), middle + half)

    def trace(self, origin: Tensor, ray: Tensor, image: Tensor, steps: int = 40) -> Tensor:
        """Distance along each ray to the solid, inf where it misses."""
        start, end = self.span(origin, ray, image)
        along = torch.full_like(start, math.inf)
        active = (end > start).nonzero()[:, 0]
        t = start[active]
        for _ in range(steps):
            gap = self.distance(origin[active] + ray[active] * t[:, None], image[active])
            done = gap < 1.5e-3
            along[active[done]] = t[done]
            t = t + gap
            keep = ~done & (t < end[active])
            active, t = active[keep], t[keep]
        return along

    def normal(self, p: Tensor, image: Tensor) -> Tensor:
        corners = p.new_tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
        gradient = sum(c * self.distance(p + c * 2e-3, image)[:, None] for c in corners)
        assert isinstance(gradient, Tensor)
        return torch.nn.functional.normalize(gradient, dim=-1)

    def shadow(self, p: Tensor, image: Tensor, steps: int = 22, softness: float = 9.0) -> Tensor:
        """How much of the light reaches p: 1 lit, 0 in full shadow, in between in the penumbra."""
        light = self.scenes.light[image]
        start, end = self.span(p, light, image, margin=1.25)
        lit = torch.ones_like(start)
        active = (end > start).nonzero()[:, 0]
        t = start[active].clamp_min(0.04)
        for _ in range(steps):
            gap = self.distance(p[active] + light[active] * t[:, None], image[active])
            lit[active] = torch.minimum(lit[active], (softness * gap / t).clamp(0, 1))
            t = t + gap.clamp(0.02, 0.25)
            keep = (lit[active] > 0.01) & (t < end[active])
            active, t = active[keep], t[keep]
        return lit * lit * (3 - 2 * lit)


def _sky(scenes: Scenes, ray: Tensor, image: Tensor) -> Tensor:
    rise = ray[:, 1].clamp_min(0)[:, None]
    glow = (ray * scenes.light[image]).sum(-1).clamp_min(0)[:, None] ** 6
    colour = torch.lerp(scenes.horizon[image], scenes.zenith[image], (rise * 4).clamp(0, 1).sqrt())
    return colour + 0.18 * glow * scenes.horizon[image]


def _checker(scenes: Scenes, p: Tensor, away: Tensor, image: Tensor) -> Tensor:
    """Checkerboard, box-filtered over a pixel's footprint so that it fades instead of flickering far away."""
    uv = 0.8 * _rotate(p[:, [0, 2]], scenes.floor_turn[image]) + scenes.floor_shift[image]
    width = (away * 0.011)[:, None]
    ramp = lambda x: (x / 2 - x.div(2, rounding_mode="floor") - 0.5).abs()  # noqa: E731
    wave = 2 * (ramp(uv - width / 2) - ramp(uv + width / 2)) / width
    mix = 0.5 - 0.5 * wave[:, :1] * wave[:, 1:]
    return torch.lerp(scenes.floor_dark[image], scenes.floor_light[image], mix.clamp(0, 1))


def _shade_floor(tracer: _Tracer, p: Tensor, away: Tensor, image: Tensor) -> Tensor:
    scenes = tracer.scenes
    base = _checker(scenes, p, away, image) ** 2.2
    near = torch.where((p - tracer.centre[image]).norm(dim=-1) < 3, 1, 0).bool()
    occlusion = torch.ones_like(away)
    occlusion[near] = (0.35 + 0.9 * tracer.distance(p[near], image[near])).clamp(0, 1)
    direct = tracer.shadow(p, image) * scenes.light[image][:, 1]
    lit = base * (0.36 * occlusion[:, None] * scenes.zenith[image].lerp(torch.ones(3), 0.5) + 0.95 * direct[:, None])
    fog = (1 - torch.exp(-(((away - 4) / 7).clamp_min(0) ** 2)))[:, None]
    return torch.lerp(lit, scenes.horizon[image] ** 2.2, fog)


def _shade_solid(tracer: _Tracer, p: Tensor, ray: Tensor, image: Tensor) -> Tensor:
    scenes = tracer.scenes
    normal, light = tracer.normal(p, image), scenes.light[image]
    facing = (normal * light).sum(-1).clamp_min(0) * tracer.shadow(p + normal * 0.02, image)
    upward = 0.5 + 0.5 * normal[:, 1]
    contact = (0.45 + p[:, 1] * 1.4).clamp(0, 1)
    ambient = torch.lerp(scenes.floor_dark[image] * 0.6, scenes.zenith[image], upward[:, None]) * contact[:, None]
    half = torch.nn.functional.normalize(light - ray, dim=-1)
    shine = (normal * half).sum(-1).clamp_min(0) ** 48 * (facing > 0.02)
    edge = (1 + (normal * ray).sum(-1)).clamp(0, 1) ** 4
    body = scenes.colour[image] ** 2.2 * (0.55 * ambient + 1.05 * facing[:, None])
    return body + 0.45 * shine[:, None] + 0.16 * edge[:, None] * scenes.horizon[image]


def render_scenes(solid: Solid, scenes: Scenes, size: int = SIZE) -> Tensor:
    """Render n scenes of one solid to (n, 3, size, size) in [0, 1]."""
    n, fine = len(scenes.scale), size * SUPERSAMPLE
    ray = _rays(scenes, fine).reshape(-1, 3)
    image = torch.arange(n).repeat_interleave(fine * fine)
    origin = scenes.eye[image]
    tracer = _Tracer(solid, scenes)
    along = tracer.trace(origin, ray, image)
    floor = torch.where(ray[:, 1] < -1e-4, -origin[:, 1] / ray[:, 1].clamp_max(-1e-4), math.inf)

    colour = _sky(scenes, ray, image) ** 2.2
    hit, ground = along < floor, (floor <= along) & floor.isfinite()
    for mask, depth, shade in ((hit, along, "solid"), (ground, floor, "floor")):
        rows = mask.nonzero()[:, 0]
        p = origin[rows] + ray[rows] * depth[rows, None]
        if shade == "solid":
            colour[rows] = _shade_solid(tracer, p, ray[rows], image[rows])
        else:
            colour[rows] = _shade_floor(tracer, p, depth[rows], image[rows])
    colour = colour.clamp(0, 1) ** (1 / 2.2)
    picture = colour.reshape(n, fine, fine, 3).permute(0, 3, 1, 2)
    return torch.nn.functional.avg_pool2d(picture, SUPERSAMPLE)


def render(class_id: int, count: int, seed: int) -> Tensor:
    """Render `count` random pictures of one class: uint8 (count, 3, 64, 64)."""
    solid = SOLIDS[CLASSES[class_id]]
    generator = torch.Generator().manual_seed(seed * 1009 + class_id)
    scenes = draw_scenes(count, solid.height, generator)
    return (render_scenes(solid, scenes) * 255).round().to(torch.uint8)


def render_set(count: int, seed: int, batch: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Render a balanced labelled set, on all cores: uint8 (count, 3, 64, 64) and int64 labels (count,).

    Seeds are spread so that sets with different `seed` share no picture.
    """
    jobs = [(index % len(CLASSES), batch, seed * 1_000_003 + index) for index in range(math.ceil(count / batch))]
    context = torch.multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        parts = pool.starmap(_render_numpy, jobs, chunksize=4)
    labels = np.repeat([class_id for class_id, _, _ in jobs], batch)
    return np.concatenate(parts)[:count], labels[:count]


def _render_numpy(class_id: int, count: int, seed: int) -> np.ndarray:
    return render(class_id, count, seed).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(".build/train.npz"))
    args = parser.parse_args()
    images, labels = render_set(args.count, args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_suffix(".partial.npz")
    np.savez(partial, images=images, labels=labels)
    partial.replace(args.out)


if __name__ == "__main__":
    main()
