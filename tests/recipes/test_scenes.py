"""Scenes: captions and attributes are functions of the parameters, words and pictures never disagree."""

from dataclasses import replace

import numpy as np
import pytest
from chance import LEAST_AREA, LEAST_SHOWN, draw_scene, shape_of
from dataset import SceneSet, render_singles, write_shard
from render import coverage, render
from scenes import ATTRIBUTES, PLACES, UNSEEN, Camera, Scene, Thing, Wording, attributes, caption, from_left, place
from solids import CLASSES, SOLIDS

DRAWN = [draw_scene(5, index) for index in range(40)]


def thing(shape: str = "cube", x: float = 0.0, z: float = 0.0, **looks: object) -> Thing:
    given = {"colour": "red", "material": "glossy", "size": "small", "scale": 0.6, "tint": (0.9, 0.1, 0.1)} | looks
    return Thing(shape=shape, x=x, z=z, **given)


def scene(*things: Thing, **given: object) -> Scene:
    defaults = {
        "floor": "checkered",
        "sky": "at sunset",
        "camera": Camera(target=(0.0, 0.5, 0.0), rise=0.4, far=6.0),
        "sun": (0.8, 0.5),
        "floor_colours": ((0.8, 0.8, 0.8), (0.4, 0.4, 0.4)),
        "floor_turn": 0.3,
        "floor_shift": (0.2, 0.7),
    }
    return Scene(things=things, **(defaults | given))


CONE = thing("cone", 1.0, colour="blue", material="matte", size="large", scale=1.0, tint=(0.1, 0.2, 0.9))


def test_the_ten_classes_are_kept_in_their_order() -> None:
    assert (
        *("sphere", "cube", "cylinder", "cone", "torus", "capsule", "octahedron", "tetrahedron"),
        *("stacked rings", "cross"),
    ) == CLASSES
    assert {shape_of(index) for index in range(0, 20, 2)} == set(CLASSES)


def test_a_caption_tells_the_scene() -> None:
    pair = scene(thing(x=-1.0), CONE)
    assert caption(pair) == "a small red glossy cube left of a large blue matte cone, on a checkered floor at sunset"
    short = replace(pair, wording=Wording(size=False, material=False, floor=False, sky=False))
    assert caption(short) == "a red cube left of a blue cone"
    assert caption(replace(short, wording=Wording(size=False, material=False, floor=False))).endswith("cone, at sunset")
    rings = scene(thing("stacked rings", colour="orange"), wording=Wording(size=False, floor=False, sky=False))
    assert caption(rings) == "orange glossy stacked rings"
    assert caption(scene(thing("octahedron", colour="orange"), wording=Wording(size=False))).startswith("an orange")


def test_the_caption_follows_every_parameter_that_it_speaks_of() -> None:
    first, other = thing(x=-1.0), scene(thing(x=-1.0), CONE)
    for change in ({"shape": "torus"}, {"colour": "green"}, {"material": "metal"}, {"size": "large"}):
        assert caption(replace(other, things=(replace(first, **change), CONE))) != caption(other)
    for change in ({"floor": "tiled"}, {"sky": "in fog"}):
        assert caption(replace(other, **change)) != caption(other)


@pytest.mark.parametrize(
    ("x", "z", "expected"), [(-1, 0.2, "left of"), (1, -0.3, "right of"), (0.4, -1, "in front of"), (-0.4, 1, "behind")]
)
def test_places_are_differences_of_positions(x: float, z: float, expected: str) -> None:
    here = scene(thing(x=x, z=z), thing("cone"))
    assert place(here) == expected
    swapped = {"left of": "right of", "right of": "left of"}
    assert place(here.mirror()) == swapped.get(expected, expected)


def test_attributes_name_the_left_thing_first_and_follow_the_mirror() -> None:
    pair = scene(CONE, thing(x=-1.0, z=-2.5))
    shown = {name: index for name, index in attributes(pair).items()}
    assert ATTRIBUTES["left shape"][shown["left shape"]] == "cube"
    assert ATTRIBUTES["right colour"][shown["right colour"]] == "blue"
    assert ATTRIBUTES["place"][shown["place"]] == "in front of"
    mirrored = attributes(pair.mirror())
    assert ATTRIBUTES["left shape"][mirrored["left shape"]] == "cone"
    assert ATTRIBUTES["place"][mirrored["place"]] == "behind"
    single = attributes(scene(thing()))
    assert single["count"] == 0 and single["place"] == single["right size"] == UNSEEN


@pytest.mark.parametrize("index", range(len(DRAWN)))
def test_words_and_parameters_never_disagree(index: int) -> None:
    drawn = replace(DRAWN[index], wording=Wording())
    words = caption(drawn)
    for one in drawn.things:
        assert f"{one.size} {one.colour} {one.material} {one.shape}" in words
        small = one.scale / drawn.camera.far
        assert one.size == ("small" if one.scale < 0.8 else "large"), small
    assert f"{drawn.floor} floor {drawn.sky}" in words
    if index % 2:
        assert sum(f" {where} " in words for where in PLACES) == 1
        first, second = drawn.things
        right, deep = abs(first.x - second.x), abs(first.z - second.z)
        assert max(right, deep) > 1.3 * min(right, deep), "a place that is nearly another one"
        left, other = from_left(drawn)
        assert left.x < other.x
    else:
        assert len(drawn.things) == 1 and drawn.things[0].shape == shape_of(index)


def test_a_scene_is_a_function_of_seed_and_index() -> None:
    assert draw_scene(5, 7) == DRAWN[7]
    assert draw_scene(6, 7) != DRAWN[7] and draw_scene(5, 9) != DRAWN[7]
    assert np.array_equal(render(DRAWN[7], 32), render(draw_scene(5, 7), 32))


def test_no_scene_hides_a_thing() -> None:
    for drawn in DRAWN:
        for part in coverage(drawn, size=64):
            assert part.area > 0.8 * LEAST_AREA and part.shown > 0.9 * LEAST_SHOWN and not part.cut
    hidden = scene(thing(z=2.0), thing("cube", scale=1.1))
    assert coverage(hidden)[0].shown < LEAST_SHOWN


def test_things_stand_on_the_floor_within_their_bounds() -> None:
    points = np.random.default_rng(0).uniform(-1.4, 1.4, (3, 60_000)).astype(np.float32)
    for name, solid in SOLIDS.items():
        x, y, z = points[:, solid.sdf(*points) < 0]
        assert np.sqrt(x**2 + y**2 + z**2).max() <= solid.bound, name
        assert np.hypot(x, z).max() <= solid.reach + 0.02, name
        assert -solid.height - 0.03 < y.min() < -solid.height + 0.12, name


def test_a_mirrored_scene_is_its_picture_flipped() -> None:
    assert np.array_equal(render(DRAWN[3].mirror(), 48), render(DRAWN[3], 48)[:, :, ::-1])


def test_the_picture_shows_the_colour_that_the_words_say() -> None:
    red = scene(thing(material="matte", scale=1.1), sky="at noon")
    blue = scene(thing(material="matte", scale=1.1, tint=(0.1, 0.2, 0.9)), sky="at noon")
    centre = (slice(None), slice(20, 26), slice(21, 27))
    assert render(red, 48)[centre].mean((1, 2)).argmax() == 0
    assert render(blue, 48)[centre].mean((1, 2)).argmax() == 2


def test_materials_shine_differently() -> None:
    looks = [render(scene(thing("sphere", material=name, scale=1.1)), 48) for name in ("matte", "glossy", "metal")]
    brightest = [int(look[1, 12:34, 14:34].max()) for look in looks]
    assert brightest[1] > brightest[0] + 40, "a glossy sphere has a highlight"
    inside = (slice(None), slice(18, 28), slice(20, 28))
    for name, mirrors in (("matte", False), ("metal", True)):
        ball = thing("sphere", material=name, scale=1.1)
        shifted = [render(scene(ball, floor_shift=(shift, 0.7)), 48)[inside].astype(int) for shift in (0.2, 1.2)]
        assert (np.abs(shifted[0] - shifted[1]).max() > 40) == mirrors, "metal alone mirrors the floor"


def test_edges_are_smooth() -> None:
    here = scene(thing("sphere", scale=1.1, material="matte"), floor="polished", sky="in fog")
    small, fine = render(here, 48).astype(float), render(here, 192).astype(float)
    averaged = fine.reshape(3, 48, 4, 48, 4).mean((2, 4))
    assert np.abs(small - averaged).mean() < 1.0
    assert np.abs(small - averaged).max() < 60


def test_shards_keep_pictures_words_and_attributes_together(tmp_path) -> None:
    for number in (0, 1):
        write_shard(tmp_path, seed=3, number=number, size=32, length=4)
    scenes = SceneSet.open(tmp_path)
    assert len(scenes) == 8 and list(scenes.singles()) == [0, 2, 4, 6]
    fifth = draw_scene(3, 5)
    assert scenes.captions[5] == [caption(fifth), caption(fifth.mirror())]
    assert list(scenes.attributes[5, 1]) == list(attributes(fifth.mirror()).values())
    assert np.array_equal(scenes.pictures([5])[0], render(fifth, 32))
    assert CLASSES[scenes.classes()[4]] == shape_of(4)


def test_singles_come_in_the_order_of_their_classes() -> None:
    pictures, labels = render_singles(3, seed=3)
    assert pictures.shape == (3, 3, 128, 128) and list(labels) == [0, 1, 2]
    assert np.array_equal(pictures[2], render(draw_scene(3, 4)))


def test_a_folder_without_shards_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.py --out"):
        SceneSet.open(tmp_path)
