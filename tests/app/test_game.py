"""Which is closer: ten shuffled rounds, nothing tells before the answer, the score counts answers only."""

from types import SimpleNamespace

import gradio as gr
import pytest

from app.services import stored
from app.tabs import game


@pytest.fixture(autouse=True)
def results(stored_folder, monkeypatch):
    monkeypatch.setattr(game, "load_results", lambda model: stored.read_results(stored_folder))
    return stored.read_results(stored_folder)


def closer(results, state):
    """The side whose stored PSNR is higher."""
    pair = game.rounds(results, state.seed)[state.round]
    left, right = (results.picture(pair.example, choice).psnr for choice in pair.choices)
    return 0 if left > right else 1


def choose(index, state):
    return game.answer(SimpleNamespace(index=index), state)


def test_a_right_and_a_wrong_answer_are_counted_and_explained(results):
    state = game.begin("demo", 3)
    won, shown, button = choose(closer(results, state), state)
    assert shown["score"] == "1 of 1 right" and shown["verdict"].startswith("✓ Right") and button["interactive"]
    following, asked, _ = game.next_round(won)
    assert asked["round"] == "Round 2 of 10" and asked["verdict"] == ""
    side = closer(results, following)
    lost, shown, _ = choose(1 - side, following)
    assert shown["score"] == "1 of 2 right" and shown["verdict"].startswith("✗ No, it was the other")
    assert choose(side, lost)[0] == lost  # a second answer does not count
    assert [picture["state"] for picture in shown["pictures"]] == (["closer", "further"][:: 1 if side == 0 else -1])


def test_ten_rounds_end_with_a_score_and_begin_anew(results):
    state = game.begin("demo", 5)
    for number in range(game.ROUNDS):
        assert state.round == number
        state, shown, button = choose(closer(results, state), state)
        if number < game.ROUNDS - 1:
            assert button["value"] == "Next pair" and "coin" not in shown["score"]
            state, _, _ = game.next_round(state)
    assert shown["score"] == "10 of 10 right. Tossing a coin gets 5." and button["value"] == "Play again"
    again, shown, _ = game.next_round(state)
    assert again.seed != state.seed and again.answers == () and shown["score"] == "No answer yet"


def test_there_is_no_next_round_before_the_answer():
    skipped = game.next_round(game.begin("demo", 0))
    assert skipped == [gr.skip()] * 3
    assert not game._shown(game.begin("demo", 0))[1]["interactive"]


def test_nothing_tells_before_the_answer():
    shown = game.show(game.begin("demo", 5))
    assert shown["original"]["src"].startswith("data:image/webp")
    for picture, letter in zip(shown["pictures"], "AB", strict=True):
        told = {key: str(value) for key, value in picture.items() if key != "src"}
        assert not any("simulated" in text or "dB" in text for text in told.values())
        assert (picture["label"], picture["caption"]) == (f"Picture {letter} is closer", letter)


def test_no_two_players_see_the_same_order_and_no_pair_comes_twice(results):
    seen = [game.rounds(results, seed) for seed in range(20)]
    assert len({tuple(map(repr, dealt)) for dealt in seen}) == 20
    for dealt in seen:
        assert len(dealt) == game.ROUNDS == len({(p.example, frozenset(p.choices)) for p in dealt})
        gaps = [abs(game._gap(results, pair)) for pair in dealt]
        assert gaps == sorted(gaps, reverse=True) and min(gaps) >= game.CLOSEST and max(gaps) <= game.FURTHEST
        assert {pair.example for pair in dealt} == {0, 1}
    sides = [game._gap(results, pair) > 0 for dealt in seen for pair in dealt]
    assert 0.3 < sum(sides) / len(sides) < 0.7


def test_opened_twice_it_is_another_game():
    from app.state import Selection

    first, second = (game.reopened(*vars(Selection()).values())[0] for _ in range(2))
    assert first.seed != second.seed


def test_pictures_that_hardly_differ_are_no_game(results, monkeypatch):
    bare = type(results)(examples=(), means={}, made={})
    monkeypatch.setattr(game, "load_results", lambda model: bare)
    with pytest.raises(ValueError, match="No two pictures stored of demo differ enough"):
        game.begin("demo", 1)
