"""What a model lacks is told with its cost; its owner makes it with a button, sees how far it is, and can cancel it."""

import shutil
import time
from pathlib import Path

import pytest

from app.components import lacking
from app.services import loading, models, preparing
from app.tabs import start
from ptq4dit import Cancelled
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.prepare import PrepareConfig

SMALL = PrepareConfig(
    calibration=CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2),
    examples=1,
    pictures=1,
    bits=((4, 8),),
    per_token=False,
    steps=2,
)
PATIENCE = 120


@pytest.fixture
def bare(model_folder, tmp_path, monkeypatch):
    """A model without calibration, opened by its owner."""
    shutil.copytree(model_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("calibration*"))
    monkeypatch.setenv("PTQ4DIT_MODEL", str(tmp_path / "bare"))
    monkeypatch.setenv("PTQ4DIT_OWNER", "1")
    monkeypatch.setattr(preparing, "usual", lambda: SMALL)
    monkeypatch.setattr(preparing, "_jobs", {})
    loading.forget_all()
    yield tmp_path / "bare"
    loading.forget_all()


def until(ended):
    end = time.monotonic() + PATIENCE
    while not ended():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_is_missing_is_told_with_its_cost(bare):
    first = lacking.lacking("bare")
    assert first["told"] == "bare is not calibrated, so its layers cannot be shown, and has no stored pictures."
    assert first["owner"] and first["command"] == f"python -m ptq4dit prepare {bare}"
    loading.opened("bare")
    assert lacking.lacking("bare")["cost"].startswith("about ")
    assert lacking.lacking("demo")["told"] == "" and not lacking.lacking("demo")["owner"]


def test_the_owner_makes_it_and_then_it_is_there(bare):
    assert lacking.prepare("bare")["job"]["ended"] == ""
    until(lambda: preparing.current("bare").ended)
    assert preparing.current("bare").ended == "done"
    assert lacking.lacking("bare")["told"] == "" and models.explored("bare").stats.layers
    assert len(start.examples("bare")["examples"]) == 1
    assert (bare / "calibration.safetensors").is_file()


def test_it_can_be_cancelled_and_says_so(bare, monkeypatch):
    from ptq4dit.prepare import run

    def slow(model, home, config, made, tell, cancelled):
        tell("calibration", 1, 4)
        until(cancelled)
        raise Cancelled("as asked")

    monkeypatch.setattr(run, "prepare", slow)
    lacking.prepare("bare")
    until(lambda: preparing.current("bare").done)
    assert lacking.lacking("bare")["job"] == {"stage": "calibration", "percent": 25, "ended": ""}
    assert "being prepared" in lacking.prepare("demo")["problem"]  # one at a time
    lacking.cancel("bare")
    until(lambda: preparing.current("bare").ended)
    assert lacking.lacking("bare")["job"]["ended"] == "cancelled"


def test_nobody_else_can(bare, monkeypatch):
    monkeypatch.setenv("PTQ4DIT_OWNER", "0")
    told = lacking.lacking("bare")
    assert not told["owner"] and told["command"] == "python -m ptq4dit prepare bare"
    assert lacking.prepare("bare")["problem"].startswith("prepare: expected whoever launched the app; run python -m")
    assert preparing.current("bare") is None


@pytest.mark.parametrize("name", ["../bare", None, ["bare"], str(Path("/"))])
def test_no_path_is_taken_for_a_model(bare, name):
    for ask in (lacking.lacking, lacking.prepare, lacking.cancel):
        assert ask(name)["problem"].startswith("model: expected one of bare, demo")


def test_what_goes_wrong_is_told(bare, monkeypatch):
    from ptq4dit.prepare import run

    def broken(*args, **named):
        raise ValueError("Expected room, got a full disk.\nMore.")

    monkeypatch.setattr(run, "prepare", broken)
    lacking.prepare("bare")
    until(lambda: preparing.current("bare").ended)
    assert lacking.lacking("bare")["job"]["ended"] == "Expected room, got a full disk."


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.1, "about a second here"),
        (40, "about 40 seconds here"),
        (200, "about 3 minutes here"),
        (9000, "about 2.5 hours here"),
    ],
)
def test_durations_are_words(seconds, told):
    assert lacking.duration(seconds).startswith(told)
