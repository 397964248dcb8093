"""Compare: what its handlers show, what its files hold, what its figures draw."""

import base64
import csv
import io
import json
import zipfile
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app.components.controls import Shared
from app.figures.difference import difference_map
from app.figures.drift import drift
from app.figures.picture import data_uri, png
from app.services import generation, running
from app.services.generation import Frame
from app.services.loading import ModelMissing, is_loaded
from app.services.request import MOST_VARIANTS, Request, Variant
from app.state import FIELDS, Selection
from app.tabs import compare_handlers as handlers
from app.tabs import compare_line_up
from app.tabs import compare_view as view
from app.tabs.compare_files import write_zip

SELECTED = list(vars(Selection(model="tiny", class_id=1, seed=4, steps=3, csb=False, ssc=False, strength=1)).values())


def pixels(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB"))


@pytest.fixture
def frame(explored_model):
    """A finished comparison whose pictures differ in one known corner."""
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)
    others = [reference.copy(), reference.copy()]
    others[0][0, 0] += 12
    others[1][:4, :4] += 51
    variants = (
        Variant(weight_bits=8, activation_bits=8, csb=True),
        Variant(weight_bits=4, activation_bits=8, csb=True),
    )
    return Frame(
        request=Request(model="tiny", class_id=3, seed=9, steps=2, strength=8, variants=variants),
        note="Finished",
        step=2,
        pictures=(reference, *others),
        timesteps=(500, 0),
        drift=((1e-4, 2e-4), (0.01, 0.02)),
        milliseconds=(10.0, 8.0, 6.0),
        megabytes=(24.0, 6.5, 3.25),
        psnr=(40.25, 20.5),
        ssim=(0.99, 0.75),
        finished=True,
    )


def test_difference_map_is_black_where_equal_and_brightest_beyond_the_gain():
    reference = np.zeros((2, 3, 3), dtype=np.uint8)
    picture = reference.copy()
    picture[0, 1] = 51  # a fifth of the range
    picture[1, 2] = 255
    shown = difference_map(picture, reference, gain=5)
    assert (shown[0, 0] == (0, 0, 4)).all()
    assert (shown[0, 1] == (252, 255, 164)).all()
    assert (shown[1, 2] == (252, 255, 164)).all()
    assert shown.dtype == np.uint8


def test_difference_map_grows_brighter_with_the_difference():
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    picture = np.repeat(steps[None, :, None], 3, axis=2)
    light = difference_map(picture, np.zeros_like(picture), gain=1)[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()


@pytest.mark.parametrize(("shape", "gain"), [((2, 2, 3), 0), ((3, 2, 3), 1)])
def test_difference_map_refuses(shape, gain):
    with pytest.raises(ValueError, match="expected"):
        difference_map(np.zeros(shape, np.uint8), np.zeros((2, 2, 3), np.uint8), gain)


def test_drift_draws_each_variant_step_by_step():
    figure = drift({"a": [0.0, 1e-3], "b": [1e-4, 1e-2]}, steps=10)
    assert [trace.name for trace in figure.data] == ["a", "b"]
    assert list(figure.data[0].y) == [None, 1e-3]
    assert list(figure.data[1].x) == [1, 2]
    assert figure.layout.yaxis.type == "log"
    assert tuple(figure.layout.xaxis.range) == (0.5, 10.5)
    assert len({trace.line.dash for trace in figure.data}) == 2  # not told apart by colour alone


def test_drift_draws_as_many_variants_as_can_be_compared_each_in_its_own_way():
    figure = drift({str(index): [0.1] for index in range(MOST_VARIANTS)}, steps=2)
    assert len({(trace.line.color, trace.line.dash) for trace in figure.data}) == MOST_VARIANTS


def test_pictures_survive_as_files():
    picture = np.random.default_rng(1).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)
    assert np.array_equal(pixels(data_uri(picture, enlarge=1)), picture)
    assert pixels(data_uri(picture)).shape == (16, 16, 3)


def test_cards_name_each_picture_and_say_how_it_was_made(frame):
    reference, w8, w4 = view.cards(frame, gain=8)["cards"]
    assert (reference["title"], reference["detail"]) == ("FP32", "full precision, salience x 8")
    assert (w8["title"], w8["detail"]) == ("W8A8", "simulated, CSB, salience x 8")
    assert (w4["psnr"], w4["ssim"]) == ("20.5", "0.750")
    assert w4["alt"] == "torus, seed 9, W4A8, simulated, CSB"
    assert "difference" not in reference
    assert np.array_equal(pixels(w4["difference"]), difference_map(frame.pictures[2], frame.pictures[0], 8))


def test_numbers_are_the_frames(frame):
    table = view.numbers(frame)
    assert [[row["title"], row["detail"], *row["cells"]] for row in table["rows"]] == [
        ["FP32", "full precision, salience x 8", "-", "-", "-", "10.0", "24.00"],
        ["W8A8", "simulated, CSB, salience x 8", "40.25", "0.9900", "0.02 %", "8.0", "6.50"],
        ["W4A8", "simulated, CSB, salience x 8", "20.50", "0.7500", "2 %", "6.0", "3.25"],
    ]
    assert len(table["columns"]) == 6


def test_the_zip_holds_pictures_numbers_and_settings(frame, tmp_path):
    path = write_zip(frame, 8, tmp_path)
    assert path.name == "ptq4dit-tiny-torus-seed9.zip"
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [
            "FP32.png",
            "W4A8-csb-difference.png",
            "W4A8-csb.png",
            "W8A8-csb-difference.png",
            "W8A8-csb.png",
            "drift.csv",
            "drift.png",
            "drift.svg",
            "numbers.csv",
            "settings.json",
        ]
        assert np.array_equal(np.asarray(Image.open(archive.open("W4A8-csb.png"))), frame.pictures[2])
        rows = list(csv.reader(io.StringIO(archive.read("drift.csv").decode())))
        settings = json.loads(archive.read("settings.json"))
    assert rows[1:] == [["1", "500", "0.0001", "0.01"], ["2", "0", "0.0002", "0.02"]]
    assert set(settings["backends"].values()) == {"simulated"}
    assert settings["model"] == settings["source"] == "tiny" and settings["model_fingerprint"]
    assert (settings["drawn"], settings["strength"], settings["difference_gain"]) == ("torus", 8, 8)


def live(session="someone", bits=("W8A8", "W4A8"), backend="simulated"):
    request = SimpleNamespace(session_hash=session)
    return handlers.compare_live(request, list(bits), "ddim", backend, 8, *SELECTED)


def test_a_run_ends_with_pictures_and_numbers_and_its_files_are_made_on_demand(explored_model):
    updates = [handlers.Update(**dict(zip(vars(handlers.Update()), u, strict=True))) for u in live()]
    last = updates[-1]
    assert last.download["interactive"] is True and updates[-2].download in (gr.skip(), gr.update(interactive=False))
    for path in handlers.offer_zip(8, last.finished):
        assert path.endswith("ptq4dit-tiny-cube-seed4.zip") and zipfile.is_zipfile(path)
    assert last.finished == Request(
        model="tiny",
        class_id=1,
        seed=4,
        steps=3,
        variants=tuple(Variant(weight_bits=bits, activation_bits=8) for bits in (8, 4)),
    )
    assert [card["title"] for card in last.cards["cards"]] == ["FP32", "W8A8", "W4A8"]
    assert len(last.table["rows"]) == 3
    assert [name for name, _ in last.against["choices"]][1] == last.wipe["right"]["alt"].split(", ", 2)[2]
    assert last.progress["percent"] == 100
    assert [u.progress["step"] for u in updates] == sorted(u.progress["step"] for u in updates)


def first(bits=("W8A8", "W4A8")):
    part, *update = handlers.recall_first(list(bits), "ddim", "simulated", 8, *SELECTED)
    return part["begin"], handlers.Update(**dict(zip(vars(handlers.Update()), update, strict=True)))


def test_the_tab_opens_with_a_comparison_that_somebody_made(explored_model, monkeypatch):
    monkeypatch.setattr(generation, "_finished", {})
    assert is_loaded("tiny", within=60)
    assert first() == (True, handlers.Update())  # of a small model, in memory
    *_, last = live()
    begin, opened = first()
    assert not begin and opened.finished == last[9]
    assert opened.cards == last[1] and opened.table == last[3]
    assert opened.progress["note"].startswith("Finished")


def test_no_tab_begins_what_takes_long_or_cannot_be_drawn(explored_model, monkeypatch):
    monkeypatch.setattr(generation, "_finished", {})
    assert is_loaded("tiny", within=60)
    monkeypatch.setattr(handlers, "is_small", lambda model: False)
    assert first() == (False, handlers.Update())
    monkeypatch.setattr(handlers, "is_small", lambda model: True)
    assert first() == (True, handlers.Update())
    assert first(bits=["huh"]) == (False, handlers.Update())


def test_what_stands_in_the_way_is_said_where_the_run_would_be(explored_model, monkeypatch):
    """Such as a model without a calibration: neither a failure of the page nor a run that never ends."""

    def missing(*_):
        raise ModelMissing("There is no calibration of tiny yet. Make it.")

    monkeypatch.setattr(generation, "_finished", {})
    assert is_loaded("tiny", within=60)
    with monkeypatch.context() as patch:
        patch.setattr(handlers, "is_small", missing)
        begin, opened = first()
        assert not begin and opened.progress["note"] == "There is no calibration of tiny yet. Make it."
        assert opened.cancel == gr.update(interactive=False)
    monkeypatch.setattr(generation, "_ready", missing)
    *_, (progress, *_, cancel, _against, _wipe, _done) = live("hindered")
    assert progress["note"] == "There is no calibration of tiny yet. Make it." and progress["step"] == 0
    assert cancel == gr.update(interactive=False)


def test_a_cancelled_run_says_so_and_keeps_its_pictures(explored_model):
    run = live("impatient")
    progress = {"step": 0}
    while progress["step"] < 1:
        progress = next(run)[0]
    handlers.cancel_run(SimpleNamespace(session_hash="impatient"))
    *_, last = run
    assert last[0]["note"] == "Cancelled at step 1 of 3"
    assert last[1] == gr.skip()
    assert not running.cancel("impatient")


@pytest.mark.parametrize(("bits", "message"), [([], "got none"), (["W1A8"], "weight_bits"), (["huh"], "got 'huh'")])
def test_bad_input_is_explained(explored_model, bits, message):
    with pytest.raises(gr.Error, match=message):
        next(live(bits=bits))


def test_a_model_that_the_app_was_not_launched_with_is_refused(tmp_path, monkeypatch, explored_model):
    monkeypatch.setenv("PTQ4DIT_MODEL", str(tmp_path))
    with pytest.raises(gr.Error, match=r"model: expected one of .*, demo; got 'tiny'"):
        list(live())


def test_a_run_clears_the_one_before_and_a_cancelled_one_leaves_nothing_of_it(explored_model):
    """Until its own numbers are there no table, slider or file of another run stands beneath the pictures."""
    run = live("anew")
    first = handlers.Update(**dict(zip(vars(handlers.Update()), next(run), strict=True)))
    assert first.table["rows"] == [] and first.wipe == handlers.NOTHING_DRAWN and first.finished is None
    assert first.against["choices"] == [] and first.details["visible"] is False
    assert first.download["interactive"] is False and not any("src" in card for card in first.cards["cards"])
    handlers.cancel_run(SimpleNamespace(session_hash="anew"))
    later = [update[3:5] + update[6:10] for update in run]
    assert all(value == gr.skip() for update in later for value in update[:1] + update[3:])


def test_what_was_made_says_what_for(frame):
    made = view.made_for(frame.request, variants="W8A8,W4A8")["asked"]
    assert made["class_id"] == 3 and made["seed"] == 9 and made["variants"] == "W8A8,W4A8" and "prompt" not in made
    assert set(made) - {"variants", "sampler"} <= set(FIELDS)
    assert view.cards(frame, 8)["about"] == "tiny: torus, seed 9"


@pytest.mark.parametrize(
    ("bits", "followed"),
    [
        (["W8A8", "W4A8 none"], {"csb", "ssc", "tokens"}),
        (["W4A8 none", "W4A8 csb"], {"tokens"}),
        (["W4A8 none token", "W4A8 csb+ssc tensor"], set()),
    ],
)
def test_only_switches_that_a_variant_follows_put_it_out_of_date(bits, followed):
    assert set(compare_line_up.own(bits, "auto", Selection())) == {"variants", "backend"} | followed


def taken_up(by="bits", bits=("W8A8", "W4A8"), taken="", link=None, **chosen):
    values = compare_line_up.take_up(by, list(bits), taken, link or {}, *vars(Selection(**chosen)).values())
    return dict(zip(("line_up", "variants", "sampler", "backend", "taken", "chart"), values, strict=True))


def test_a_link_brings_line_up_variants_sampler_and_backend():
    link = {"line_up": "balancing", "variants": "W3A8 none,W3A8 csb", "sampler": "dpm++", "backend": "simulated"}
    taken = taken_up(link=link)
    assert (taken["line_up"], taken["variants"]) == ("balancing", ["W3A8 none", "W3A8 csb"])
    assert (taken["sampler"], taken["backend"]) == ("dpm++", "simulated")
    again = taken_up("balancing", taken["variants"], taken["taken"], link)
    assert all(value == gr.skip() for value in again.values())  # what it set itself does not line them up anew
    moved = taken_up("balancing", taken["variants"], taken["taken"], link, weight_bits=8)
    assert moved["variants"][0] == "W8A8 none" and moved["chart"] == gr.skip()


@pytest.mark.parametrize(
    "link", [{"variants": "huh", "line_up": "<b>", "sampler": "euler"}, {"variants": "W9A8" * 200}, None]
)
def test_what_a_link_asks_in_vain_is_left_as_it_is(link):
    taken = taken_up(link=link, weight_bits=3)
    assert taken["variants"] == ["W8A8", "W3A8"]
    assert taken["line_up"] == taken["sampler"] == taken["backend"] == gr.skip()


def test_nothing_is_lined_up_before_the_page_has_said_its_link():
    values = compare_line_up.take_up("balancing", ["W8A8"], "", None, *vars(Selection()).values())
    assert values == [gr.skip()] * 6


def test_another_gain_changes_the_maps_of_the_last_run(frame):
    generation.remember(frame)
    weak, strong = (handlers.regain(gain, frame.request)["cards"][1]["difference"] for gain in (1, 32))
    assert weak != strong
    assert handlers.regain(8, None) == gr.skip()
    with pytest.raises(gr.Error, match="expected a finished comparison"):
        next(handlers.offer_zip(8, None))
    assert handlers.regain(8, Request(model="tiny", seed=77)) == gr.skip()


@pytest.mark.parametrize(
    ("by", "weight", "activation", "bits", "expected"),
    [
        ("bits", 4, 8, ["W8A8", "W4A8"], ["W8A8", "W4A8"]),
        ("bits", 3, 8, ["W8A8", "W4A8"], ["W8A8", "W3A8"]),
        ("bits", 16, 16, ["W8A8", "W4A8"], ["W8A8", "W4A8"]),
        ("balancing", 4, 6, ["W8A8"], ["W4A6 none", "W4A6 csb", "W4A6 csb+ssc"]),
        ("bits", 4, 8, ["W4A6 none", "W4A6 csb"], ["W8A8", "W4A8"]),
        ("both", 4, 8, ["W8A8", "W4A8"], ["W8A8", "W4A8 none", "W4A8 csb", "W4A8 csb+ssc"]),
    ],
)
def test_line_ups(by, weight, activation, bits, expected):
    selection = Selection(weight_bits=weight, activation_bits=activation)
    assert compare_line_up.line_up(by, bits, *vars(selection).values()) == expected


def test_the_updates_match_the_views():
    from app.tabs.compare import _Views

    assert list(_Views.__dataclass_fields__) == list(handlers.Update.__dataclass_fields__)
    assert set(vars(Selection())) <= set(Shared.__dataclass_fields__)


def test_the_second_row_holds_the_balancings(explored_model):
    request = handlers.make_request(
        ["W8A8", "W4A8 none", "W4A8 csb", "W4A8 csb+ssc"], "ddim", "simulated", Selection(model="tiny", class_id=1)
    )
    cards = view.cards(Frame(request=request, note=""), 8)["cards"]
    assert [card["state"] for card in cards] == ["follows", "follows", "breaks", "follows", "follows"]
    assert view.second_row(handlers.make_request(["W8A8", "W4A8"], "ddim", "simulated", Selection())) is None


def test_the_slider_shows_the_chosen_variant(frame):
    generation.remember(frame)
    first, second = (handlers.slide(index, frame.request) for index in (0, 1))
    assert first["left"] == second["left"] and first["right"]["src"] != second["right"]["src"]
    assert first["right"]["name"] == "W8A8, simulated"
    assert handlers.slide(0, None) == gr.skip()


def test_integers_run_where_they_can_and_every_picture_says_so(explored_model):
    *_, last = live(bits=("W4A8", "W3A8"), backend="auto")
    details = [card["detail"] for card in last[1]["cards"]]
    assert details == ["full precision", "integer, no balancing", "simulated, no balancing"]


@pytest.mark.parametrize(("bits", "backend"), [("W3A8", "integer"), ("W4A6", "integer"), ("W4A8", "fast")])
def test_a_backend_that_cannot_is_refused(bits, backend):
    with pytest.raises(ValueError, match="backend: "):
        Variant.parse(bits, True, True, backend)


def test_a_visitor_who_leaves_cancels_the_run(explored_model):
    from app.page import build

    hooks = [fn for fn in build().fns.values() if any(event == "unload" for _, event in fn.targets)]
    assert hooks
    run = live("leaving")
    while next(run)[0]["step"] < 1:
        pass
    for hook in hooks:
        hook.fn(SimpleNamespace(session_hash="leaving"))
    *_, last = run
    assert last[0]["note"].startswith("Cancelled at step 1")
