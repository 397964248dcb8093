"""Methods: what is shown of the stored benchmark, whichever cells there are, and a pair run live."""

from dataclasses import replace
from threading import Event
from types import SimpleNamespace

import gradio as gr
import pytest

from app.services import contenders, methods, running
from app.services.stored_benchmark import Setting, read_benchmark
from app.state import Selection
from app.tabs import methods_handlers as handlers
from app.tabs import methods_live as live
from app.tabs import methods_view as view

W4 = Setting(strength=1, bits="W4A8")


@pytest.fixture
def stored(benchmark_folder, monkeypatch):
    """The tab reads the little benchmark."""
    monkeypatch.setattr(handlers, "load_benchmark", lambda model: read_benchmark(benchmark_folder))
    return read_benchmark(benchmark_folder)


def values(**changes):
    return list(vars(replace(Selection(model="tiny", strength=1, class_id=3), **changes)).values())


def test_methods_are_ranked_with_their_intervals(stored):
    trace = view.ranking(stored, W4, "psnr").data[0]
    assert list(trace.y) == ["PTQ4DiT", "Round to nearest", "unheard"]
    assert list(trace.x) == [24.0, 21.0, 20.0]
    assert list(trace.error_x.arrayminus) == [0.5, 0, 0]
    assert len({trace.marker.color[0], trace.marker.color[1]}) == 2  # PTQ4DiT stands out, and not by colour alone
    assert trace.marker.symbol[0] != trace.marker.symbol[1]
    assert list(view.ranking(stored, W4, "drift").data[0].x) == [0.2, 0.21, 0.24]  # lower is better


def test_differences_are_marked_by_whether_they_are_any(stored):
    trace = view.differences(stored, W4).data[0]
    assert list(trace.y) == ["Round to nearest"] and trace.x[0] == pytest.approx(-3)
    assert trace.marker.symbol[0] == "triangle-left"
    assert "**Further away**: Round to nearest." in view.reading(stored, W4)
    assert "Not measured here: GPTQ." in view.reading(stored, W4)


def test_the_table_says_simulated_and_leaves_no_cell_out(stored):
    table = view.table(stored, W4)
    assert "simulated" in table["label"]
    assert [row["state"] for row in table["rows"]] == ["other", "chosen", "other"]
    assert table["rows"][1]["cells"] == ["24.00 ± 0.50", "0.2400", "0.240", "1.5", "9.00", "nothing"]
    assert all(len(row["cells"]) + 1 == len(table["columns"]) for row in table["rows"])


def test_the_factorial_shows_what_was_measured(stored):
    cells = stored.factorials[W4]
    assert [trace.name for trace in view.factorial(cells, "psnr").data] == ["static", "dynamic, reconstructed"]
    rows = view.factorial_table(W4, cells, "psnr")["rows"]
    assert [row["cells"] for row in rows] == [
        ["21.00 ± 0.50", "-", "-", "-"],
        ["-", "-", "-", "-"],
        ["-", "-", "-", "26.00 ± 0.50"],
    ]


def test_the_tab_follows_the_selection_and_says_when_it_cannot(stored):
    setting, _, reading, *_ = handlers.draw("psnr", *values())
    assert setting["value"] == "1/W4A8" and not reading.startswith("W")
    setting, _, reading, _, _, _, _, card, *_ = handlers.draw("psnr", *values(strength=8, weight_bits=8))
    assert setting["value"] == "8/W8A8" and card["visible"] is False
    _, _, reading, *_ = handlers.draw("psnr", *values(weight_bits=3))
    assert reading.startswith("W3A8 is not measured, so this shows W4A8.")
    assert handlers.choose("8/W8A8", "tiny") == [8, 8, 8]


def test_no_benchmark_is_told_with_its_command(monkeypatch, tmp_path):
    monkeypatch.setattr(handlers, "load_benchmark", lambda model: read_benchmark(tmp_path))
    shown = handlers.draw("psnr", *values())
    assert "python -m ptq4dit benchmark" in shown[2] and str(tmp_path) not in shown[2]
    assert len(shown) == 11


def test_a_pair_is_run_live(explored_model):
    updates = list(live.run_pair(someone(), "rtn", methods.PLAIN, *values(steps=3)))
    progress, cards, details, table, _, cancel = updates[-1]
    assert progress["note"].startswith("Finished") and details["visible"] and not cancel["interactive"]
    assert [card["title"] for card in cards["cards"]][1:] == [methods.title("rtn"), methods.title(methods.PLAIN)]
    assert len(table["rows"]) == 2 and all("simulated" in row["detail"] for row in table["rows"])
    assert all(len(row["cells"]) + 1 == len(table["columns"]) for row in table["rows"])


def test_a_pair_can_be_cancelled(explored_model):
    run = live.run_pair(someone(), "rtn", methods.PLAIN, *values(steps=50))
    while next(run)[0]["step"] < 1:
        pass
    live.cancel_pair(someone())
    *_, last = run
    assert last[0]["note"] == "Cancelled at step 1 of 50"
    assert not running.cancel("someone/methods")


def someone():
    return SimpleNamespace(session_hash="someone")


@pytest.mark.parametrize(
    ("pair", "changes", "message"),
    [
        (("rtn", "rtn"), {}, "expected two different ones"),
        (("rtn", "huh"), {}, "method: expected one of rtn"),
        (("rtn", "repq"), {"weight_bits": 16, "activation_bits": 16}, "got float for both"),
    ],
)
def test_a_pair_that_cannot_be_run_is_explained(explored_model, pair, changes, message):
    with pytest.raises(gr.Error, match=message):
        next(live.run_pair(someone(), *pair, *values(**changes)))


def test_the_benchmark_decides_what_is_reconstructed():
    assert methods.variant("gptq", 4, 8).reconstruct and methods.variant("ptq4dit", 4, 8).reconstruct
    assert methods.variant("ours", 4, 8).reconstruct and not methods.variant("rtn", 4, 8).reconstruct
    plain = methods.variant(methods.PLAIN, 4, 8)
    assert (plain.method, plain.reconstruct, plain.csb, plain.ssc) == ("ptq4dit", False, True, True)
    assert len({key for _, key in methods.choices()}) == len(methods.choices()) == 14


def test_ours_brings_its_own_reconstruction_and_says_that_it_takes_long(explored_model, monkeypatch):
    """It is not given the benchmark's reconstruction, which would make another method of it."""
    import ptq4dit

    asked = {}

    def quantize(dit, stats, config, **more):
        asked.update(config=config, **more)
        return dit

    monkeypatch.setattr(ptq4dit, "quantize", quantize)
    told = []
    for name in ("ours", "gptq"):
        told.clear()
        contenders._quantize("tiny", methods.variant(name, 4, 8), 1, Event(), lambda words, _: told.append(words))
        assert (asked["config"].reconstruction is None) == (asked["data"] is None) == (name == "ours")
        assert asked["progress"] is not None and ("minutes" in " ".join(told)) == (name == "ours")
