"""Stored speed: read as the bench writes it, fastest first, gaps left open."""

import json

import pytest

from app.services import stored_speed
from app.state import Selection
from app.tabs import compare_handlers, compare_view

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
