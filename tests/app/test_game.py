"""Which one is quantized: nothing tells before the answer, the score counts answers only."""

from types import SimpleNamespace

import pytest

from app.services import stored
from app.tabs import game


@pytest.fixture(autouse=True)
def results(stored_folder, monkeypatch):
    monkeypatch.setattr(game, "load_results", lambda model: stored.read_results(stored_folder))


def test_a_right_and_a_wrong_answer_are_counted_and_explained():
    state = game.deal("demo", 3)
    won, shown = game.answer(SimpleNamespace(index=state.side), state)
    assert shown["score"] == "1 of 1 right" and shown["verdict"].startswith("Right.")
    following, _ = game.next_round(won)
    lost, shown = game.answer(SimpleNamespace(index=1 - following.side), following)
    assert shown["score"] == "1 of 2 right" and shown["verdict"].startswith("No, it was")
    assert game.answer(SimpleNamespace(index=following.side), lost)[0] == lost  # a second answer does not count
    assert shown["pictures"][following.side]["state"] == "quantized"


def test_an_unanswered_round_does_not_count():
    state, shown = game.next_round(game.deal("demo", 0))
    assert (state.asked, shown["score"]) == (0, "No answer yet")


def test_nothing_tells_before_the_answer():
    for picture in game.show(game.deal("demo", 5))["pictures"]:
        assert picture["src"].startswith("data:image/webp")
        told = {key: str(value) for key, value in picture.items() if key not in ("src", "label")}
        assert not any("simulated" in text or "precision" in text for text in told.values())
        assert picture["label"].endswith("is quantized")


def test_both_sides_and_many_pictures_come_up():
    rounds = [game.deal("demo", seed) for seed in range(60)]
    assert {r.side for r in rounds} == {0, 1} and len({(r.example, r.choice) for r in rounds}) > 10
