"""What a scene of the demo models' world is: one or two solids on a floor under a sky, and the words for it.

The camera looks along +z with x to the right, so the places that words speak of are plain differences of positions.
A caption is a function of the scene, as its picture is (`render.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from solids import CLASSES, SOLIDS, Solid

Colour = tuple[float, float, float]  # as on a screen, 0 to 1

COLOURS: dict[str, Colour] = {
    "red": (0.86, 0.11, 0.12),
    "orange": (0.98, 0.50, 0.05),
    "yellow": (0.98, 0.86, 0.12),
    "green": (0.16, 0.66, 0.22),
    "turquoise": (0.12, 0.78, 0.76),
    "blue": (0.13, 0.28, 0.85),
    "purple": (0.55, 0.20, 0.74),
    "white": (0.95, 0.95, 0.94),
    "black": (0.10, 0.10, 0.11),
}
MATERIALS = ("matte", "glossy", "metal")
SIZES = ("small", "large")
PLACES = ("left of", "right of", "in front of", "behind")
FLOORS = ("checkered", "striped", "tiled", "polished")
PLURALS = ("stacked rings",)  # take no article
SKIES = ("at noon", "at sunset", "at night", "in fog")


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One solid with its looks; `scale` is the number behind `size`, `tint` the drawn variant of `colour`."""

    shape: str
    colour: str
    material: str
    size: str
    scale: float
    tint: Colour
    x: float = 0.0
    z: float = 0.0
    turn: float = 0.0

    @property
    def solid(self) -> Solid:
        return SOLIDS[self.shape]

    @property
    def centre(self) -> tuple[float, float, float]:
        return self.x, self.scale * self.solid.height, self.z


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Where the eye is: `far` from `target`, `rise` radians above it."""

    target: tuple[float, float, float]
    rise: float
    far: float


@dataclass(frozen=True, kw_only=True)
class Wording:
    """Which of a scene's attributes its caption tells."""

    size: bool = True
    material: bool = True
    floor: bool = True
    sky: bool = True


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that a picture and its caption depend on; the caption speaks of `things[0]` first.

    sun: the light's direction as (radians from straight ahead to the right, radians above the horizon). mirrored: the
    picture is flipped left to right, and the words with it.
    """

    things: tuple[Thing, ...]
    floor: str
    sky: str
    camera: Camera
    sun: tuple[float, float]
    floor_colours: tuple[Colour, Colour]
    floor_turn: float
    floor_shift: tuple[float, float]
    wording: Wording = Wording()
    mirrored: bool = False

    def mirror(self) -> Scene:
        """The same scene, seen in a mirror."""
        return replace(self, mirrored=not self.mirrored)


def place(scene: Scene) -> str:
    """Where the first thing is from the second, seen by the camera: one of PLACES."""
    first, second = scene.things
    right, deep = first.x - second.x, first.z - second.z
    if abs(right) > abs(deep):
        return "right of" if (right > 0) != scene.mirrored else "left of"
    return "behind" if deep > 0 else "in front of"


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _name(thing: Thing, wording: Wording) -> str:
    words = [thing.size] * wording.size + [thing.colour] + [thing.material] * wording.material + [thing.shape]
    phrase = " ".join(words)
    return phrase if thing.shape in PLURALS else _article(phrase)


def caption(scene: Scene) -> str:
    """The scene in words, as many as its wording asks for.

    "a small red glossy cube left of a large blue matte cone, on a checkered floor at sunset"
    """
    wording = scene.wording
    text = f" {place(scene)} ".join(_name(thing, wording) for thing in scene.things) if len(scene.things) > 1 else ""
    text = text or _name(scene.things[0], wording)
    around = [f"on {_article(scene.floor)} floor"] * wording.floor + [scene.sky] * wording.sky
    return f"{text}, {' '.join(around)}" if around else text


def from_left(scene: Scene) -> tuple[Thing, ...]:
    """The things in the order in which the picture shows them, left to right."""
    return tuple(sorted(scene.things, key=lambda thing: -thing.x if scene.mirrored else thing.x))


ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "count": ("one", "two"),
    **{
        f"{which} {name}": values
        for which in ("left", "right")
        for name, values in {"shape": CLASSES, "colour": tuple(COLOURS), "material": MATERIALS, "size": SIZES}.items()
    },
    "place": ("beside", "in front of", "behind"),
    "floor": FLOORS,
    "sky": SKIES,
}
"""What a picture shows, with nothing said of who is named first: two things are told apart by which is further left,
and `place` is the left one's, seen from the right one. A single thing is the left one."""

UNSEEN = -1  # the index of an attribute that a scene does not have


def attributes(scene: Scene) -> dict[str, int]:
    """The scene's index among each attribute's values; UNSEEN for the second thing's where there is one."""
    things = from_left(scene)
    shown: dict[str, str] = {"count": ATTRIBUTES["count"][len(things) - 1], "floor": scene.floor, "sky": scene.sky}
    for which, thing in zip(("left", "right"), things, strict=False):
        shown |= {f"{which} {name}": getattr(thing, name) for name in ("shape", "colour", "material", "size")}
    if len(things) == 2:
        seen = place(replace(scene, things=things))
        shown["place"] = "beside" if seen in ("left of", "right of") else seen
    return {name: values.index(shown[name]) if name in shown else UNSEEN for name, values in ATTRIBUTES.items()}
