"""Start: what is said and shown follows from the stored numbers, and the switches from the selection."""

import json
from types import SimpleNamespace

import pytest

from app.content.grades import grade
from app.services import models
from app.services.stored import Choice, load_results, read_results
from app.state import BITS, STRENGTHS, Selection
from app.tabs import start
from app.tabs import start_view as view

ALL = [Choice(b, s, c, q and c) for b in ("W4A8", "W8A8") for s in (1, 8) for c in (False, True) for q in (False, True)]


@pytest.fixture
def results(stored_folder, monkeypatch):
    monkeypatch.setattr(start, "load_results", lambda model: read_results(stored_folder))
    return read_results(stored_folder)


@pytest.mark.parametrize("choice", ALL)
def test_the_number_is_the_stored_one(results, choice):
    shown = view.verdict(results, 1, choice)
    psnr = results.picture(1, choice).psnr
    assert shown["number"] == f"{psnr:.1f} dB"
    assert (shown["word"], shown["grade"]) == (grade(psnr).word, grade(psnr).key)
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


def test_without_pictures_of_every_tokens_scale_the_switch_is_shut_and_says_so(results):
    wanted = Selection(tokens=True, weight_bits=4, strength=1)
    choice = view.nearest(results, wanted)
    assert not choice.tokens and view.switchboard(results, choice)["tokens"] == {"on": "false", "off": True}
    assert "a scale for every token is not stored" in view.remark(wanted, choice)


def test_with_such_pictures_they_are_shown(stored_folder, monkeypatch):
    file = stored_folder / "results.json"
    content = json.loads(file.read_text())
    for table in (content["means"], *(one["quantized"] for one in content["examples"])):
        table |= {f"{key}/token": {**value, "psnr": value["psnr"] + 7} for key, value in list(table.items())}
    file.write_text(json.dumps(content))
    results = read_results(stored_folder)
    choice = view.nearest(results, Selection(tokens=True, weight_bits=4, strength=1, csb=False, ssc=False))
    assert choice.key == "W4A8/x1/none/token" and view.ways(results)["tokens"]
    assert view.switchboard(results, choice)["tokens"] == {"on": "true", "off": False}
    assert view.verdict(results, 0, choice)["number"] == "28.5 dB"
    assert "a scale for every token" in view.wipe(results, 0, choice)["right"]["alt"]
    assert set(view.table(results, 0)["views"]) == {f"{one.key}{end}" for one in ALL for end in ("", "/token")}


def test_the_telling_picture_is_the_most_broken_one_that_balancing_mends(stored_folder):
    """Below 22 dB are both examples at W4A8, x1: 21.5 dB, balanced 27.5, and 20.0 dB, balanced 26.0."""
    file = stored_folder / "results.json"
    content = json.loads(file.read_text())

    def told():
        file.write_text(json.dumps(content))
        results = read_results(stored_folder)
        return results.telling, view.telling(results)

    found, selection = told()
    assert found == (1, Choice()) and (selection["class_id"], selection["csb"]) == (0, False)
    content["examples"][0]["quantized"]["W4A8/x1/csb+ssc"]["psnr"] = 40.0  # hard to tell
    assert told()[0] == (0, Choice())
    content["means"]["W4A8/x1/csb+ssc"]["psnr"] = 1.0  # on average balancing is no help there
    assert told() == (None, None)


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
        (Selection(weight_bits=4, activation_bits=8, strength=1), "W4A8", 1),
        (Selection(weight_bits=3, activation_bits=6, strength=2), "W4A8", 1),
        (Selection(weight_bits=7, strength=16), "W8A8", 8),
        (Selection(weight_bits=16, activation_bits=16), "W8A8", 8),
    ],
)
def test_a_selection_finds_the_nearest_stored_choice(results, selection, bits, strength):
    choice = view.nearest(results, selection)
    assert (choice.bits, choice.strength) == (bits, strength)
    exact = f"W{selection.weight_bits}A{selection.activation_bits}" == bits and selection.strength == strength
    assert bool(view.remark(selection, choice)) is not exact


def test_the_page_finds_the_stored_choice_as_the_server_does(results):
    nearest = view.ways(results)["nearest"]
    for selection in (
        Selection(weight_bits=w, activation_bits=a, strength=s) for w in BITS for a in BITS for s in STRENGTHS
    ):
        choice = view.nearest(results, selection)
        assert nearest["bits"][f"{selection.weight_bits},{selection.activation_bits}"] == choice.bits
        assert nearest["strength"][str(selection.strength)] == choice.strength


@pytest.mark.parametrize("choice", ALL)
def test_an_example_is_sent_with_every_choice(results, choice):
    """So that a switch changes the picture without the server."""
    sent = start.example(["demo", 1])
    assert len(sent["views"]) == 12 and sent["left"] == view.wipe(results, 1, choice)["left"]
    shown = view.opening(results, 1, choice)
    assert sent["views"][choice.key].items() <= shown.items()
    assert set(shown) >= {"left", "right", "number", "sentence", "rows", "source", "csb", "ssc", "choices", "items"}


def test_an_unknown_example_is_refused(results):
    assert start.example(["demo", 7])["problem"].startswith("example: expected a whole number from 0 to 1; got 7")


@pytest.mark.parametrize("choice", ALL)
def test_the_switchboard_shows_the_choice(results, choice):
    board = view.switchboard(results, choice)
    assert (board["csb"]["on"], board["ssc"]["on"]) == (str(choice.csb).lower(), str(choice.ssc).lower())
    assert board["ssc"]["off"] is not choice.csb
    chosen = [one["value"] for row in board["choices"] for one in row["options"] if one["chosen"] == "true"]
    assert chosen == [choice.strength, choice.bits]


def test_the_page_opens_with_what_is_selected():
    """On the demo model's own results: the default class and seed are among the examples."""
    results = load_results("demo")
    assert view.matching_example(results, Selection(), -1) >= 0
    assert view.remark(Selection(), view.nearest(results, Selection())) == ""


def test_without_stored_results_the_tab_says_how_to_make_them(explored_once):
    import gradio as gr

    with gr.Blocks() as page:
        start.create_start_tab(SimpleNamespace(outline=models.outline("tiny")))
    (part,) = [block for block in page.blocks.values() if block.elem_id == "start"]
    assert (
        part.value["problem"] == "Nothing of this kind is stored for tiny yet. Make it: python -m ptq4dit prepare tiny"
    )
    assert part.value["left"]["src"] == part.value["right"]["src"] == "" and part.value["items"] == []
