"""How often what goes on is shown: however fast frames come, charts are drawn once a second."""

from types import SimpleNamespace

import pytest

from app.components import pace
from app.components.pace import paced
from app.services import generation
from app.services.generation import Frame
from app.services.request import Request, Variant
from app.tabs import compare_handlers, methods_live
from tests.app.test_compare import SELECTED

SECONDS, A_SECOND = 4, 20


def frames(request, finished=True):
    """A run of some seconds with so many frames and pictures a second."""
    for step in range(1, SECONDS * A_SECOND + 1):
        yield Frame(request=request, note="Step", step=step, pictures=(object(),), drift=((0.1,) * step,) * 2)
    if finished:
        yield Frame(request=request, note="Finished", step=SECONDS * A_SECOND, pictures=(object(),), finished=True)


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by one frame whenever it is looked at by the chart's pace."""
    now = iter(range(10**6))
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: next(now) / A_SECOND))


def two():
    return Request(
        model="tiny",
        steps=SECONDS * A_SECOND,
        variants=(Variant(weight_bits=8, activation_bits=8), Variant(weight_bits=4, activation_bits=8)),
    )


def test_a_chart_is_drawn_once_a_second_and_at_the_end(clock):
    beats = list(paced(frames(two())))
    assert beats[0].first and not any(beat.first for beat in beats[1:])
    assert beats[-1].chart and beats[-1].frame.finished
    assert SECONDS <= sum(beat.chart for beat in beats) <= SECONDS + 1
    assert sum(beat.pictures for beat in beats) == len(beats) > 3 * SECONDS


def test_what_ends_unfinished_ends_cancelled():
    *going, last = paced(frames(two(), finished=False))
    assert last.cancelled and last.frame.step == SECONDS * A_SECOND
    assert not any(beat.cancelled for beat in going)
    assert list(paced([])) == []


@pytest.mark.parametrize("tab", ["compare", "methods"])
def test_both_tabs_draw_at_that_pace(tab, clock, monkeypatch, explored_once):
    monkeypatch.setattr(generation, "run", lambda request, stop: frames(request, finished=False))
    for module in (compare_handlers, methods_live):
        monkeypatch.setattr(module, "shown", lambda figure: "drawn")
    monkeypatch.setattr("app.tabs.compare_view.data_uri", lambda picture: "")
    monkeypatch.setattr("app.tabs.compare_view._card", lambda frame, index, gain: {"title": ""})
    someone = SimpleNamespace(session_hash=tab)
    if tab == "compare":
        updates = list(compare_handlers.compare_live(someone, ["W8A8", "W4A8"], "ddim", "simulated", 8, *SELECTED))
    else:
        updates = list(methods_live.run_pair(someone, "rtn", "repq", *SELECTED))
    drawn = sum("drawn" in [value for value in update if isinstance(value, str)] for update in updates)
    assert len(updates) > 3 * SECONDS and 2 <= drawn <= SECONDS + 2
