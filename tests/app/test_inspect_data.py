"""What Inspect's script is answered and what it hands out, without a server: numbers that add up, problems in words."""

import base64
import json
import re
from dataclasses import asdict, replace

import gradio as gr
import numpy as np
import pandas as pd
import pytest

from app.look import LOOKS, Look
from app.services import inspection, models
from app.state import FIELDS, Selection, refer
from app.tabs import inspect_api, inspect_data, inspect_files
from app.tabs.inspect_content import content_of, view_of

pytestmark = pytest.mark.usefixtures("explored_once")
USUAL = "~~~~"


def values(**chosen):
    """The controls' values in field order."""
    return [(asdict(Selection(model="tiny", layer="blocks.0.fc1", strength=1)) | chosen)[name] for name in FIELDS]


def unpacked(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_a_layers_answer_is_what_the_charts_need():
    answer = inspect_data.layer(["tiny", "blocks.0.fc1", 1])
    json.dumps(answer, allow_nan=False)
    view = inspection.layer_view("tiny", "blocks.0.fc1", True, True, 1)
    shape = len(view.timesteps), answer["channels"]
    np.testing.assert_array_equal(unpacked(answer["activation"]).reshape(shape), view.activation)
    np.testing.assert_array_equal(unpacked(answer["weight"]), view.weight)
    np.testing.assert_array_equal(unpacked(answer["factors"]["csb+ssc"]), view.factors)
    np.testing.assert_allclose(answer["rho"]["none"], view.rho, rtol=1e-4)
    np.testing.assert_allclose(answer["rho"]["csb+ssc"], view.rho_balanced, rtol=1e-4)
    assert sum(answer["eta"]) == pytest.approx(1, abs=1e-3)


def test_fc2_has_no_factors_and_says_why():
    answer = inspect_data.layer(["tiny", "blocks.0.fc2", 1])
    assert answer["factors"] == {} and list(answer["rho"]) == ["none"]
    assert "GELU" in answer["note"] and inspect_data.layer(["tiny", "blocks.0.fc1", 1])["note"] == ""


@pytest.mark.parametrize(("layer", "names"), [("blocks.0.fc1", ["none", "csb", "csb+ssc"]), ("blocks.0.fc2", ["none"])])
def test_effect_tells_errors_grids_and_channels(layer, names):
    answer = inspect_data.effect(["tiny", layer, 4, 8, 1, False])
    json.dumps(answer, allow_nan=False)
    errors = inspection.layer_errors("tiny", layer, 4, 8, 1)
    stats = models.explored("tiny").stats
    assert answer["made"] == "simulated" and list(answer["variants"]) == list(answer["channels"]) == names
    for name in names:
        one = answer["variants"][name]
        assert one["error"] == errors.overall[name]
        assert one["input"]["levels"] == 256 and one["weight"]["levels"] == 16 and one["weight"]["step"] == 1
        assert sum(one["input"]["counts"]) == stats.samples[layer].numel()
        assert one["input"]["low"] <= one["input"]["first"] + one["input"]["step"]
        assert len(answer["channels"][name]) == stats.samples[layer].shape[-1]
        assert min(answer["channels"][name]) >= 0 < max(answer["channels"][name])


def test_float_has_no_grid():
    effect = inspect_data.effect(["tiny", "blocks.0.fc1", 16, 16, 1, False])
    answer = effect["variants"]["none"]
    assert "nothing is rounded" in effect["reading"]
    assert "levels" not in answer["input"] and "levels" not in answer["weight"]


def test_a_channels_values_are_those_of_calibration_and_weight():
    answer = inspect_data.channel(["tiny", "blocks.1.proj", 3, 1])
    model = models.explored("tiny")
    np.testing.assert_array_equal(
        unpacked(answer["activation"]), model.stats.samples["blocks.1.proj"][..., 3].flatten().numpy()
    )
    assert np.abs(unpacked(answer["weight"])).max() == pytest.approx(
        float(model.stats.weight_salience["blocks.1.proj"][3])
    )


def test_overview_has_a_number_a_layer_in_order():
    overview, errors = inspect_data.overview(["tiny", 1]), inspect_data.errors(["tiny", 4, 8, 1, False])
    json.dumps([overview, errors], allow_nan=False)
    assert overview["layers"] == inspect_api.layers()
    numbers = overview["measures"] | errors["measures"]
    assert set(numbers) == {"activation", "weight", "rho", "none", "csb", "csb+ssc"}
    assert {len(row) for row in numbers.values()} == {len(overview["layers"])}
    fc2 = overview["layers"].index("blocks.1.fc2")
    assert numbers["csb"][fc2] is None and numbers["none"][fc2] > 0


@pytest.mark.parametrize(
    ("call", "question", "message"),
    [
        (inspect_data.layer, ["tiny", "blocks.9.fc1", 1], "got 'blocks.9.fc1'"),
        (inspect_data.layer, ["tiny", "blocks.0.fc1", 3], "strength"),
        (inspect_data.layer, ["tiny", "blocks.0.fc1"], "strength"),
        (inspect_data.effect, ["tiny", "blocks.0.fc1", 9, 8, 1, False], "weight_bits"),
        (inspect_data.channel, ["tiny", "blocks.0.fc1", 99, 1], "channel: expected 0 to 15 in blocks.0.fc1; got 99"),
        (inspect_data.channel, ["tiny", "blocks.0.fc1", -1, 1], "got -1"),
        (inspect_data.overview, ["tiny", "high"], "strength"),
        (inspect_data.overview, ["other", 1], "model: expected one of tiny, demo; got 'other'"),
        (inspect_data.errors, ["tiny", 4, 8, None, False], "strength"),
    ],
)
def test_problems_are_answered_in_words(call, question, message):
    assert message in call(question)["problem"]


def test_csv_holds_every_number_and_what_made_them():
    for file in inspect_files.offer_csv("all", USUAL, *values(layer="blocks.0.proj", strength=2)):
        assert file.endswith("tiny-blocks.0.proj-w4a8-csb+ssc-x2.csv")
        with open(file) as text:
            assert "W4A8 simulated, CSB + SSC, salience x 2, function unchanged" in text.readline()
        table = pd.read_csv(file, comment="#", skiprows=1)
    view = view_of(Selection(model="tiny", layer="blocks.0.proj", strength=2))
    at = table[(table.series == "balanced_activation") & (table.timestep == view.timesteps[1])]
    np.testing.assert_allclose(at.value, view.balanced_activation[1], rtol=1e-5)
    assert set(table[table.series == "rho"].timestep) == set(view.timesteps)
    assert table[(table.series == "error csb+ssc") & table.timestep.isna()].value.item() > 0


@pytest.mark.parametrize(
    ("offer", "opening"),
    [
        (inspect_files.offer_png, b"\x89PNG\r\n\x1a\n"),
        (inspect_files.offer_svg, b"<?xml ve"),
        (inspect_files.offer_pdf, b"%PDF-1.4"),
    ],
)
def test_pictures_are_pictures(offer, opening):
    for file in offer("all", USUAL, *values(csb=False, ssc=False)):
        with open(file, "rb") as picture:
            assert picture.read(8) == opening


def table_of(chart, look, **chosen):
    """The first line and the rows of a CSV file."""
    for file in inspect_files.offer_csv(chart, look, *values(**chosen)):
        with open(file) as text:
            first = text.readline()
        return first, pd.read_csv(file, comment="#", skiprows=1)


def test_one_chart_is_taken_away_as_it_is_seen():
    first, table = table_of("channels", "after~log~activation~16~all", channel=3)
    assert "channels logarithmic, after balancing, by activation, top 16, over all timesteps" in first
    view = inspection.layer_view("tiny", "blocks.0.fc1", True, True, 1)
    most = view.activation.max(axis=0)
    shown = table[table.series == "activation"]
    assert shown.channel.tolist() == np.argsort(-most, kind="stable")[:16].tolist()
    np.testing.assert_allclose(shown.value, np.sort(most)[::-1][:16], rtol=1e-5)
    assert set(table.series) == {"activation", "balanced_activation", "weight", "balanced_weight", "b_x"}
    assert set(table_of("time", USUAL)[1].series) == {"rho", "rho_balanced", "eta"}


def test_the_menus_are_those_of_the_page():
    from app.components.part import script

    text = script("inspector/view")
    for name, options in LOOKS.items():
        (menu,) = re.findall(rf"^  {name}: \{{ (.+) \}},$", text, re.MULTILINE)
        assert [key.strip("'") for key in re.findall(r"('?[\w+]+'?): '", menu)] == sorted(options, key=menu.index)
    assert Look.read(USUAL) == Look()
    for wrong in ("after", "after~~~~~", "sideways~~~~"):
        with pytest.raises(ValueError, match="expected"):
            Look.read(wrong)


def test_the_reference_is_in_the_files_and_named():
    other = Selection(model="tiny", layer="blocks.1.qkv", timestep=0, strength=1, ssc=False)
    chosen = Selection(model="tiny", layer="blocks.0.fc1", strength=1, reference=refer(other))
    quiet = content_of(chosen, Look()).beside
    view = inspection.layer_view("tiny", "blocks.1.qkv", True, False, 1)
    assert quiet.name == "blocks.1.qkv, timestep 0, CSB"
    np.testing.assert_array_equal(quiet.activation, view.balanced_activation[view.nearest(0)])
    np.testing.assert_array_equal(content_of(chosen, Look(stage="before")).quiet.weight, view.weight)
    errors = inspection.layer_errors("tiny", "blocks.1.qkv", 4, 8, 1).over_time["csb"]
    np.testing.assert_array_equal(quiet.errors, errors)
    _, table = table_of("errors", USUAL, reference=refer(other))
    np.testing.assert_allclose(table[table.series.str.startswith("reference (blocks.1.qkv")].value, errors, rtol=1e-5)
    assert content_of(replace(chosen, layer="blocks.0.fc2"), Look()).beside is None


def test_a_file_of_a_layer_that_is_not_there_is_refused():
    with pytest.raises(gr.Error, match=r"blocks\.9\.fc1"):
        next(inspect_files.offer_csv("all", USUAL, *values(layer="blocks.9.fc1")))


def test_endpoints_answer_in_plain_numbers():
    assert inspect_api.layers()[0] == "blocks.0.qkv"
    salience = inspect_api.layer_salience("blocks.0.fc1", timestep=0)
    correlation = inspect_api.layer_correlation("blocks.0.fc1")
    error = inspect_api.layer_error("blocks.0.fc1", bits="W8A8")
    json.dumps([salience, correlation, error], allow_nan=False)
    assert salience["timestep"] == min(correlation["timesteps"])
    assert len(salience["activation"]) == len(salience["balanced_weight"]) == 16
    assert sum(correlation["weights"]) == pytest.approx(1, abs=1e-5)
    assert error["made_by"] == "simulated" and list(error["overall"]) == ["none", "csb", "csb+ssc"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inspect_api.layer_salience("blocks.9.fc1"), r"expected one of blocks\.0\.qkv .* got 'blocks\.9\.fc1'"),
        (lambda: inspect_api.layer_salience("blocks.0.fc1", timestep=1000), "timestep: .* from 0 to 999; got 1000"),
        (lambda: inspect_api.layer_salience("blocks.0.fc1", strength=3), "strength: .*got 3"),
        (lambda: inspect_api.layer_correlation("blocks.0.fc1", csb=False, ssc=True), "ssc: needs csb"),
        (lambda: inspect_api.layer_error("blocks.0.fc1", bits="W9A8"), "weight_bits.*9"),
        (lambda: inspect_api.layer_error("blocks.0.fc1", bits="tiny"), "bits: expected .* got 'tiny'"),
    ],
)
def test_endpoints_refuse_in_words(call, message):
    with pytest.raises(gr.Error, match=message):
        call()
