"""What a caption asks of a picture, as attributes, and whether a picture shows it.

A caption that puts one thing in front of another does not say which is further left, so it may ask for either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scenes import ATTRIBUTES, Scene, Thing, Wording, place

Asked = dict[str, str]  # attribute -> value, of those that the caption tells


def _looks(which: str, thing: Thing, wording: Wording) -> Asked:
    told = ["shape", "colour"] + ["size"] * wording.size + ["material"] * wording.material
    return {f"{which} {name}": getattr(thing, name) for name in told}


def _arrangements(scene: Scene) -> Iterator[Asked]:
    """The things from left to right, with the left one's place seen from the right one."""
    wording = scene.wording
    if len(scene.things) == 1:
        yield {"count": "one"} | _looks("left", scene.things[0], wording)
        return
    first, second = scene.things
    where = place(scene)
    turned = {"in front of": "behind", "behind": "in front of"}
    if where != "right of":
        seen = {"count": "two", "place": where if where in turned else "beside"}
        yield seen | _looks("left", first, wording) | _looks("right", second, wording)
    if where != "left of":
        seen = {"count": "two", "place": turned.get(where, "beside")}
        yield seen | _looks("left", second, wording) | _looks("right", first, wording)


def asked(scene: Scene) -> list[Asked]:
    """All that would be right for the scene's caption: one or two sets of attributes, any of which will do."""
    around = {"floor": scene.floor} if scene.wording.floor else {}
    around |= {"sky": scene.sky} if scene.wording.sky else {}
    return [arrangement | around for arrangement in _arrangements(scene)]


def verdict(scene: Scene, shown: Mapping[str, int]) -> dict[str, bool]:
    """For each attribute that the caption tells, whether the picture shows it; by the arrangement that fits best.

    Args:
        shown: attribute -> index among its values, as `scenes.attributes` gives it or a judge names it.
    """
    ways = [{name: ATTRIBUTES[name][shown[name]] == value for name, value in wanted.items()} for wanted in asked(scene)]
    return max(ways, key=lambda way: sum(way.values()))
