"""What hurts the picture: shown of this very model, at the dial and bits that were measured, or said to be missing."""

import dataclasses
import shlex

import pytest

import ptq4dit
from app.services import cache, models, stored_sensitivity
from app.tabs import inspect_data
from ptq4dit.cli import main
from ptq4dit.config.sensitivity import Sensitivity


@pytest.fixture
def keep(explored_once):
    """Keep a table among the tiny model's results: every layer another error, four times as large at 4 bits as at 8."""
    folder = explored_once / "results"
    folder.mkdir(exist_ok=True)
    kept = []

    def put(name, strength=1, times=1.0, **changes):
        stats = models.explored("tiny", strength).stats
        errors = {layer: {4: 0.04 * times * i, 8: 0.01 * times * i} for i, layer in enumerate(stats.layers, start=1)}
        settings = {"activation_bits": 8, "csb": True, "ssc": True}
        table = Sensitivity(
            model=stats.model,
            samples=16,
            errors=errors,
            bytes={layer: {4: 1, 8: 2} for layer in errors},
            fixed_bytes=0,
            settings=settings,
        )
        kept.append(folder / name)
        dataclasses.replace(table, **changes).save(folder / name)
        cache.forget_everything()

    yield put
    for file in kept:
        file.unlink(missing_ok=True)
    cache.forget_everything()


def test_the_map_has_a_number_a_layer_in_order(keep):
    keep("sensitivity.json")
    layers = list(models.explored("tiny").stats.layers)
    found = inspect_data.hurts(["tiny", 4, True, True, 1])
    assert (
        found["values"] == pytest.approx([4.0 * i for i in range(1, len(layers) + 1)]) and found["made"] == "simulated"
    )
    assert inspect_data.hurts(["tiny", 8, True, True, 1])["values"][0] == pytest.approx(1.0)
    assert f"**{layers[-1]}** hurts most, 32 %" in found["told"] and "W4A8, CSB + SSC, simulated" in found["told"]
    assert "over 16 calls" in found["told"] and "Not measured" not in found["told"]


def test_the_switches_choose_among_what_is_stored(keep):
    keep("sensitivity.json")
    keep("sensitivity-none.json", times=2.0, settings={"activation_bits": 8, "csb": False, "ssc": False})
    assert inspect_data.hurts(["tiny", 4, False, False, 1])["values"][0] == pytest.approx(8.0)
    assert inspect_data.hurts(["tiny", 4, True, True, 1])["values"][0] == pytest.approx(4.0)
    other = inspect_data.hurts(["tiny", 4, True, False, 1])
    assert "Not measured with CSB, which" in other["told"] and other["values"][0] in (4.0, 8.0)


def test_each_setting_of_the_dial_has_its_own(keep):
    keep("sensitivity.json")
    assert "salience x 8" in inspect_data.hurts(["tiny", 4, True, True, 8])["problem"]
    keep("sensitivity-x8.json", strength=8, times=3.0)
    assert inspect_data.hurts(["tiny", 4, True, True, 8])["values"][0] == pytest.approx(12.0)
    assert inspect_data.hurts(["tiny", 4, True, True, 1])["values"][0] == pytest.approx(4.0)


def test_what_is_missing_or_anothers_is_said(keep):
    asked = ["tiny", 4, True, True, 1]
    assert "not been measured of tiny yet. Make it: python -m ptq4dit prepare" in inspect_data.hurts(asked)["problem"]
    keep("sensitivity.json", model="0" * 32)
    assert "not been measured" in inspect_data.hurts(asked)["problem"]
    keep("sensitivity.json")
    assert "for weights of 4 and 8 bits" in inspect_data.hurts(["tiny", 5, True, True, 1])["problem"]
    (models.entry("tiny").folder / "results" / "sensitivity.json").write_text("{}")
    cache.forget_everything()
    assert "not been measured" in inspect_data.hurts(asked)["problem"]


def test_what_the_told_command_writes_is_found(keep, monkeypatch, explored_once):
    monkeypatch.setenv("PTQ4DIT_OWNER", "1")
    keep("sensitivity.json")
    told = inspect_data.hurts(["tiny", 4, True, True, 2])["problem"]
    typed = shlex.split(told.split("make it: ")[1])
    assert typed[:4] == ["python", "-m", "ptq4dit", "sensitivity"]
    try:
        assert main([*typed[3:], "--samples", "1"]) == 0
        cache.forget_everything()
        assert len(inspect_data.hurts(["tiny", 4, True, True, 2])["values"]) == 8
    finally:
        (explored_once / "results" / "sensitivity-x2.json").unlink(missing_ok=True)


def test_what_is_stored_of_the_demo_is_the_demos(monkeypatch):
    """By the files alone: each table is of the demo as trained or with its salience raised, as it says."""
    from app.services.result_files import result_files
    from app.services.shelf import DEMO

    stats = ptq4dit.Calibration.load(DEMO / "calibration.safetensors")
    tables = [Sensitivity.load(file) for file in result_files("demo") if file.match(stored_sensitivity.FILES)]
    assert {(one.settings["strength"], one.settings["csb"]) for one in tables} >= {(1, True), (8, True), (8, False)}
    for one in tables:
        assert list(one.errors) == stats.layers and set(one.errors[stats.layers[0]]) == {4, 8}
        assert (one.model.split("-")[0] == stats.model.split("-")[0]) == (one.settings["strength"] == 1)
        assert one.made["model_fingerprint"] == one.model and one.made["backend"] == "simulated"
