"""Start: what is said and shown follows from the stored numbers, and the switches from the selection."""

import re
from types import SimpleNamespace

import pytest

from app.services import stored
from app.services.stored import Choice, load_results
from app.state import Selection
from app.tabs import start
from app.tabs import start_view as view

ALL = [Choice(b, s, c, q and c) for b in ("W4A8", "W8A8") for s in (1, 8) for c in (False, True) for q in (False, True)]


@pytest.fixture
def results(stored_folder, monkeypatch):
    monkeypatch.setattr(start, "load_results", lambda: load_results(stored_folder))
    return load_results(stored_folder)


@pytest.mark.parametrize("choice", ALL)
def test_the_number_is_the_stored_one(results, choice):
    shown = view.verdict(results, 1, choice)
    assert shown["number"] == f"{results.picture(1, choice).psnr:.1f} dB"
    (row,) = [row for row in shown["rows"] if row["state"] == "chosen"]
    assert row["psnr"] == f"{results.mean(choice).psnr:.1f}"
    assert "simulated" in shown["unit"]


def test_the_sentence_tells_the_difference_that_the_switches_make(results):
    # keys 0, 1, 2 of example 0 have 21.5, 24.5 and 27.5 dB; the means 30, 31 and 32 dB
    plain, csb = view.sentence(results, 0, Choice()), view.sentence(results, 0, Choice(csb=True))
    assert "this picture would be 6.0 dB closer to full precision, 27.5 instead of 21.5." in plain
    assert "average over 64 pictures: 2.0 dB closer to full precision, 32.0 instead of 30.0." in plain
    assert "With CSB this picture is 3.0 dB closer" in csb
    assert "average over 64 pictures: 1.0 dB closer" in csb


@pytest.mark.parametrize(
    ("balanced", "said"),
    [(30.0, "1.0 dB closer to"), (28.0, "1.0 dB further from"), (29.04, "as far from full precision as without")],
)
def test_a_loss_or_no_change_is_said_as_such(balanced, said):
    assert said in view._compare(balanced, 29.0)


def test_the_wipe_shows_the_pictures_of_the_choice(results):
    sources = {view.wipe(results, 0, choice)["right"]["src"] for choice in ALL}
    assert len(sources) == 12  # two bit-widths, two dials, three variants
    assert view.wipe(results, 0, ALL[0])["left"]["src"] not in sources
    assert "simulated" in view.wipe(results, 0, ALL[0])["right"]["alt"]


@pytest.mark.parametrize(
    ("selection", "bits", "strength"),
    [
        (Selection(weight_bits=4, activation_bits=8), "W4A8", 1),
        (Selection(weight_bits=3, activation_bits=6), "W4A8", 1),
        (Selection(weight_bits=7, strength=16), "W8A8", 8),
        (Selection(weight_bits=16, activation_bits=16), "W8A8", 1),
    ],
)
def test_a_selection_finds_the_nearest_stored_choice(results, selection, bits, strength):
    choice = view.nearest(results, selection)
    assert (choice.bits, choice.strength) == (bits, strength)
    exact = f"W{selection.weight_bits}A{selection.activation_bits}" == bits and selection.strength == strength
    assert bool(view.remark(selection, choice)) is not exact


@pytest.mark.parametrize(
    ("before", "press", "after"),
    [
        (Choice(csb=True, ssc=True), ("csb", "false"), Choice()),
        (Choice(), ("ssc", "true"), Choice()),
        (Choice(csb=True), ("ssc", "true"), Choice(csb=True, ssc=True)),
        (Choice(), ("strength", "8"), Choice(strength=8)),
        (Choice(), ("bits", "W8A8"), Choice(bits="W8A8")),
    ],
)
def test_a_pressed_switch(before, press, after):
    assert view.pressed(before, *press) == after


def test_an_unknown_switch_is_refused():
    with pytest.raises(ValueError, match="expected csb, ssc, strength or bits; got 'mode'"):
        view.pressed(Choice(), "mode", "1")


@pytest.mark.parametrize("choice", ALL)
def test_the_switchboard_holds_the_choice(results, choice):
    assert view.chosen(view.switchboard(results, choice)) == choice


def test_switch_moves_the_shared_controls(results):
    board, strip = view.switchboard(results, Choice(csb=True, ssc=True)), view.filmstrip(results, 1)
    event = SimpleNamespace(name="strength", to="8")
    wipe, _, new_board, *shared = start.switch(event, board, strip)
    assert shared == [True, True, 8, 4, 8]
    assert view.chosen(new_board).strength == 8
    assert wipe == view.wipe(results, 1, Choice(strength=8, csb=True, ssc=True))


def test_pick_moves_class_and_seed(results):
    *_, strip, class_id, seed = start.pick(SimpleNamespace(index=1), view.switchboard(results, Choice()))
    assert (class_id, seed, strip["chosen"]) == (0, 1, 1)
    assert [item["chosen"] for item in strip["items"]] == ["false", "true"]


def follow(results, choice, **selection):
    values = vars(Selection(**selection)).values()
    return start.follow(view.switchboard(results, choice), view.filmstrip(results, 0), *values)


def test_follow_does_nothing_when_nothing_moved(results):
    unmoved = follow(results, Choice(csb=True, ssc=True), class_id=3, seed=5)
    assert all(update["__type__"] == "update" and len(update) == 1 for update in unmoved)


def test_follow_shows_the_selection(results):
    wipe, verdict, board, strip = follow(results, Choice(), class_id=0, seed=1, csb=True, ssc=False, weight_bits=5)
    assert view.chosen(board) == Choice(csb=True)
    assert strip["chosen"] == 1
    assert wipe == view.wipe(results, 1, Choice(csb=True))
    assert re.search(r"W5A8.* is not stored.*shows W4A8", verdict["remark"])


def test_the_page_opens_with_what_is_selected(results):
    """Else the first change of any control would exchange the picture."""
    shown = follow(results, Choice(csb=True, ssc=True), **vars(Selection()))
    assert view.matching_example(results, Selection(), 0) == 0  # no stored example is the default class and seed
    assert all(len(update) == 1 for update in shown)


def test_without_stored_results_the_tab_says_how_to_make_them(tmp_path, monkeypatch):
    import gradio as gr

    monkeypatch.setattr(start, "load_results", lambda: stored.load_results(tmp_path))
    with gr.Blocks() as page:
        start.create_start_tab(None)
    (notice,) = [block for block in page.blocks.values() if isinstance(block, gr.Markdown)]
    assert "python assets/recipes/results.py" in notice.value
