"""What captions ask for: a picture of the scene always passes, a picture of another one does not."""

from dataclasses import replace

import pytest
from asked import asked, verdict
from chance import draw_scene
from evaluate_text import read, report_on
from judge import SceneJudge
from scenes import ATTRIBUTES, COLOURS, Wording, attributes, place

DRAWN = [draw_scene(8, index) for index in range(60)]


@pytest.mark.parametrize("index", range(len(DRAWN)))
def test_a_scene_shows_what_its_caption_asks_for(index: int) -> None:
    for scene in (DRAWN[index], DRAWN[index].mirror()):
        assert all(verdict(scene, attributes(scene)).values())


@pytest.mark.parametrize("index", [0, 1, 3, 5, 7, 9])
def test_a_wrong_colour_or_count_is_found(index: int) -> None:
    scene = DRAWN[index]
    shown = attributes(scene)
    turned = {**shown, "left colour": (shown["left colour"] + 1) % len(COLOURS)}
    found = verdict(scene, turned)
    assert not all(found.values()) and found["count"]
    assert not verdict(scene, {**shown, "count": 1 - shown["count"]})["count"]


def test_a_swapped_pair_is_wrong_beside_each_other() -> None:
    scene = next(s for s in DRAWN if len(s.things) == 2 and place(s) == "left of")
    full = replace(scene, wording=Wording())
    swapped = replace(full, things=(full.things[1], full.things[0]))
    moved = replace(swapped, things=tuple(replace(t, x=-t.x, z=t.z) for t in full.things))
    assert not all(verdict(full, attributes(moved)).values())


def test_in_front_of_may_lie_either_way() -> None:
    scene = next(s for s in DRAWN if len(s.things) == 2 and place(s) == "in front of")
    assert [one["place"] for one in asked(scene)] == ["in front of", "behind"]
    flipped = replace(scene, things=tuple(replace(t, x=-t.x) for t in scene.things))
    assert all(verdict(scene, attributes(flipped)).values())


def test_only_what_is_told_is_asked_for() -> None:
    scene = replace(DRAWN[0], wording=Wording(size=False, material=False, floor=False, sky=False))
    assert [set(one) for one in asked(scene)] == [{"count", "left shape", "left colour"}]


def test_the_report_counts_captions_of_one_and_of_two_apart() -> None:
    import torch

    shown = [attributes(scene) for scene in DRAWN[:4]]
    shown[1] = {**shown[1], "count": 0}
    report = report_on(DRAWN[:4], shown)
    assert report["captions_right"] == {"all": 0.75, "one": 1.0, "two": 0.5}
    assert report["captions"] == {"all": 4, "one": 2, "two": 2}
    assert report["attributes_right"]["count"] == 0.75
    seen = read(SceneJudge().eval(), torch.rand(3, 3, 128, 128))
    assert len(seen) == 3 and all(seen[0][name] < len(values) for name, values in ATTRIBUTES.items())
