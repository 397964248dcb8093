"""Stored speed: read as the bench writes it, fastest first, gaps left open."""

import json
import shlex

import pytest

from app.services import models, shelf, stored_speed
from app.state import Selection
from app.tabs import compare_handlers, compare_view
from ptq4dit.cli import main

CONTESTANTS = {
    "torch-f32": {
        "name": "torch",
        "label": "float32",
        "execution": "float",
        "disk_bytes": 22_000_000,
        "batches": {"2": {"ms": 16.7, "speedup": 1.0}},
        "fresh_process": {"resident_mb": 700.0},
    },
    "ours": {"name": "ours", "label": "W8A8", "execution": "integer", "batches": {"2": {"ms": 3.3, "speedup": 5.06}}},
    "broken": {"name": "other", "label": "W8A8", "execution": "integer", "failed": "no"},
}


@pytest.fixture
def folder(tmp_path):
    made = {"command": "python -m ptq4dit speed", "commit": "abc1234", "hardware": "a test"}
    (tmp_path / "speed.json").write_text(json.dumps({"made": made, "contestants": CONTESTANTS}))
    return tmp_path


def test_the_fastest_comes_first_and_what_failed_is_left_out(folder, monkeypatch):
    timings, made = stored_speed.read_speed(folder)
    assert [(t.name, t.milliseconds) for t in timings] == [("ours", 3.3), ("torch", 16.7)]
    assert made["commit"] == "abc1234"
    monkeypatch.setattr(compare_view, "load_speed", lambda model: (timings, made))
    shown = compare_view.stored_speed("demo")
    assert "{" not in shown["source"]
    rows = shown["rows"]
    assert [row["cells"] for row in rows] == [["3.3", "5.06", "-", "-"], ["16.7", "1.00", "700", "22.00"]]
    assert rows[0]["detail"] == "W8A8, integer"


def test_nothing_measured_shows_nothing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="run python -m ptq4dit speed"):
        stored_speed.read_speed(tmp_path)
    monkeypatch.setattr(compare_view, "load_speed", lambda model: stored_speed.read_speed(tmp_path))
    assert compare_handlers.draw_speed(*vars(Selection()).values())[0]["rows"] == []


@pytest.mark.parametrize("beside", [True, False])
def test_what_the_told_command_writes_is_found(model_folder, beside, tmp_path, monkeypatch):
    """Beside the model, whose name may be any, or in the cache where its folder cannot be written."""
    own = tmp_path / "how to prepare"
    own.mkdir()
    for path in model_folder.iterdir():
        if path.name != "results":
            (own / path.name).symlink_to(path)
    for name, value in (("PTQ4DIT_MODEL", own), ("PTQ4DIT_CACHE", tmp_path / "cache"), (shelf.OWNER, "1")):
        monkeypatch.setenv(name, str(value))
    name = shelf.first().name
    content = {"contestants": CONTESTANTS, "model": {"blocks": 2}}
    content["made"] = {"model_fingerprint": models.identity(name)}
    monkeypatch.setattr("ptq4dit.speed.run.measure_speed", lambda config, made, line: content)
    monkeypatch.setattr("ptq4dit.speed.table.markdown", lambda content, batch: "")
    monkeypatch.setattr("os.access", lambda path, mode: beside)
    with pytest.raises(ValueError, match="Make it: python -m ptq4dit speed") as told:
        stored_speed.load_speed(name)
    typed = shlex.split(str(told.value).split("Make it: ")[1])
    assert typed[:4] == ["python", "-m", "ptq4dit", "speed"] and main(typed[3:]) == 0
    assert [one.name for one in stored_speed.load_speed(name)[0]] == ["ours", "torch"]
    assert (own / "results").exists() == beside


def test_what_is_of_no_model_of_ones_own_is_not_kept_with_one(capsys):
    assert main(["speed", "xl", "--explorer"]) == 2
    assert "Expected a model of one's own" in capsys.readouterr().err
