"""What Inspect's handlers return, without a server: every place filled, switches acting, bad input told in words."""

import base64
import json
from dataclasses import asdict
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pandas as pd
import pytest

from app.state import FIELDS, Selection
from app.tabs import inspect_api, inspect_files
from app.tabs import inspect_handlers as handlers

pytestmark = pytest.mark.usefixtures("explored_once")


def values(look=("activation", "one", "channel", "median"), **chosen):
    """The controls' values, shared ones first."""
    return [*(({name: None for name in FIELDS} | asdict(Selection()) | chosen)[name] for name in FIELDS), *look]


def drawn(**chosen):
    return dict(zip(PLACES, handlers.draw({}, *values(**chosen))[1:], strict=True))


PLACES = [place for part in handlers.PARTS.values() for place in part.places]


def data(plot):
    return json.loads(plot.plot)["data"]


def numbers(sent):
    """An array as Plotly sends it: base64 of its bytes."""
    return np.frombuffer(base64.b64decode(sent["bdata"]), dtype=sent["dtype"])


def test_at_first_every_place_is_filled():
    keys, *filled = handlers.draw({}, *values())
    assert set(keys) == set(handlers.PARTS)
    assert len(filled) == len(PLACES)
    assert all(filled) and gr.skip() not in filled


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({}, set()),
        ({"layer": "blocks.1.proj"}, set(handlers.PARTS)),
        ({"csb": False, "ssc": False}, set(handlers.PARTS) - {"map", "summary"}),
        ({"timestep": 0}, set(handlers.PARTS) - {"map"}),
        ({"weight_bits": 8}, {"map", "error"}),
        ({"look": ("activation", "one", "channel", "log")}, {"channels"}),
        ({"look": ("rho", "one", "channel", "median")}, {"map"}),
        ({"seed": 5, "steps": 3}, set()),
    ],
)
def test_only_what_changed_is_drawn_again(change, parts):
    keys, *_ = handlers.draw({}, *values())
    again = dict(zip(PLACES, handlers.draw(keys, *values(**change))[1:], strict=True))
    redrawn = {name for name, part in handlers.PARTS.items() if again[part.places[0]] != gr.skip()}
    assert redrawn == parts


@pytest.mark.parametrize(
    ("part", "before", "after"), [("channels", 2, 4), ("timesteps", 2, 3), ("complementarity", 1, 2)]
)
def test_csb_adds_the_balanced_traces(part, before, after):
    assert len(data(drawn(csb=False, ssc=False)[part])) == before
    assert len(data(drawn(csb=True)[part])) == after


def test_csb_acts_on_the_heat_map_and_on_the_chosen_error():
    off, on = (drawn(csb=csb, ssc=csb)["heatmap"] for csb in (False, True))
    assert off.plot != on.plot
    opacity = {csb: data(drawn(csb=csb, ssc=csb)["error"])[0]["marker"]["opacity"] for csb in (False, True)}
    assert np.argmax(opacity[False]) == 0 and np.argmax(opacity[True]) == 2


def test_ssc_counts_only_with_csb():
    assert drawn(csb=False, ssc=True)["error"] == drawn(csb=False, ssc=False)["error"]


def test_span_over_all_timesteps_shows_the_largest():
    view = handlers.view_of(Selection())
    plot = drawn(look=("activation", "all", "channel", "linear"))["channels"]
    np.testing.assert_allclose(numbers(data(plot)[0]["y"]), view.activation.max(axis=0), rtol=1e-6)


def test_order_puts_the_most_salient_first():
    plot = drawn(look=("activation", "one", "salience", "linear"))["channels"]
    assert (np.diff(numbers(data(plot)[0]["y"])) <= 0).all()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [({"layer": "blocks.9.fc1"}, "got 'blocks.9.fc1'"), ({"timestep": -5}, "timestep"), ({"seed": None}, "seed")],
)
def test_bad_input_is_told_in_words(chosen, message):
    with pytest.raises(gr.Error, match=message):
        handlers.draw({}, *values(**chosen))


def test_a_click_on_the_map_names_the_layer():
    assert handlers.pick_layer(SimpleNamespace(layer="blocks.1.proj")) == "blocks.1.proj"


def test_csv_holds_every_number_and_what_made_them():
    for file in inspect_files.offer_csv(*values(layer="blocks.0.proj", strength=2)):
        assert file.endswith("blocks.0.proj-w4a8-csb+ssc-x2.csv")
        with open(file) as text:
            assert "W4A8 simulated, CSB + SSC, salience x 2, function unchanged" in text.readline()
        table = pd.read_csv(file, comment="#", skiprows=1)
    view = handlers.view_of(Selection(layer="blocks.0.proj", strength=2))
    at = table[(table.series == "balanced_activation") & (table.timestep == view.timesteps[1])]
    np.testing.assert_allclose(at.value, view.balanced_activation[1], rtol=1e-5)
    assert set(table[table.series == "rho"].timestep) == set(view.timesteps)
    assert table[(table.series == "error csb+ssc") & table.timestep.isna()].value.item() > 0


def test_png_is_a_picture():
    for file in inspect_files.offer_png(*values(csb=False, ssc=False)):
        with open(file, "rb") as picture:
            assert picture.read(8) == b"\x89PNG\r\n\x1a\n"


def test_a_file_of_a_layer_that_is_not_there_is_refused():
    with pytest.raises(gr.Error, match=r"blocks\.9\.fc1"):
        next(inspect_files.offer_csv(*values(layer="blocks.9.fc1")))


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
