"""Start's curve over the salience dial: the stored means, the sign of balancing at each point, and where one is."""

import json

import pytest

from app.content.grades import sign
from app.services.stored import Choice, load_results, read_results
from app.state import Selection
from app.tabs import dial
from app.tabs import start_view as view
from app.tabs.data_stored import dial_figure

LOSING = {"W4A8/x1/csb": 29.0, "W4A8/x1/csb+ssc": 29.97}  # against 30 dB without: a loss, and no difference


@pytest.fixture
def results(stored_folder):
    """The stored results, but at W4A8 as trained balancing does not pay."""
    file = stored_folder / "results.json"
    content = json.loads(file.read_text())
    for key, psnr in LOSING.items():
        content["means"][key]["psnr"] = psnr
    file.write_text(json.dumps(content))
    return read_results(stored_folder)


def points(curve):
    return {point["value"]: point for point in curve["points"]}


@pytest.mark.parametrize(
    ("balanced", "found"), [(30.05, "gains"), (30.04, "same"), (29.96, "same"), (29.9, "loses"), (20.0, "loses")]
)
def test_a_sign_says_whether_balancing_pays(balanced, found):
    assert sign(balanced, 30.0) == found


def test_every_point_is_a_stored_mean_and_says_its_sign(results):
    curve = dial.curves(results)["W4A8"]
    assert "at W4A8, 64 pictures, simulated" in curve["title"]
    found = points(curve)
    assert {key: one["sign"] for key, one in found.items()} == {
        **{"1/none": "plain", "1/csb": "loses", "1/csb+ssc": "same"},
        **{"8/none": "plain", "8/csb": "gains", "8/csb+ssc": "gains"},
    }
    assert found["1/csb"]["said"] == "CSB, as trained: 29.0 dB, further from full precision than without balancing"
    for bits, one in dial.curves(results).items():
        for key, point in points(one).items():
            strength, way = key.split("/")
            assert f": {results.means[f'{bits}/x{strength}/{way}'].psnr:.1f} dB" in point["said"]


def test_what_is_further_from_full_precision_lies_lower(results):
    found = points(dial.curves(results)["W4A8"])
    heights = {key: float(one["y"]) for key, one in found.items()}
    order = sorted(found, key=lambda key: results.means[f"W4A8/x{key}"].psnr)
    assert sorted(heights, key=lambda key: -heights[key]) == order
    assert all(0 < float(one["x"]) < 100 for one in found.values()) and all(0 < y < 100 for y in heights.values())
    assert len({one["x"] for one in found.values()}) == 6  # none hides another


def test_one_is_where_the_switches_are(results):
    choice = Choice(csb=True)
    shown = view.opening(results, 0, choice)["dial"]
    assert [key for key, one in points(shown).items() if one["here"] == "true"] == ["1/csb"]
    assert (shown["here"]["sign"], shown["here"]["pays"]) == ("loses", "loses")
    plain = view.opening(results, 0, Choice())["dial"]["here"]
    assert (plain["sign"], plain["pays"]) == ("plain", "same") and "CSB and SSC make no difference here" in plain[
        "said"
    ]
    assert view.ways(results)["dials"].keys() == {"W4A8", "W8A8"}


def test_the_bars_take_the_sign_and_not_one_colour(results):
    rows = {row["name"]: (row["state"], row["sign"]) for row in view.verdict(results, 0, Choice(csb=True))["rows"]}
    assert rows == {"no balancing": ("other", "plain"), "CSB": ("chosen", "loses"), "CSB + SSC": ("other", "same")}


def test_without_a_dial_there_is_no_curve(results, stored_folder):
    file = stored_folder / "results.json"
    content = json.loads(file.read_text())
    content["means"] = {key: mean for key, mean in content["means"].items() if "/x1/" in key}
    file.write_text(json.dumps(content))
    assert dial.curves(read_results(stored_folder)) == {}
    assert dial.marked(None, Choice()) == dial.NOTHING


def test_on_the_demo_balancing_pays_with_large_outliers_and_not_at_four_bits_as_trained():
    found = points(dial.curves(load_results("demo"))["W4A8"])
    assert found["8/csb+ssc"]["sign"] == "gains"
    assert {found["1/csb"]["sign"], found["1/csb+ssc"]["sign"]} <= {"loses", "same"}


def test_the_chart_to_take_away_marks_the_point_too():
    figure = dial_figure(Selection(weight_bits=8, strength=8, csb=False, ssc=False))
    *lines, here = figure.data
    assert here.name == "you are here"
    assert dict(zip(lines[0].x, lines[0].y, strict=True))[8] == here.y[0]
