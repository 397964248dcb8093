"""Short forms of the load tests; the long ones are run by hand, as `python tests/load/crowd.py`."""

import pytest

from tests.load.crowd import Seen, crowd
from tests.load.fuzz import fuzz
from tests.load.sessions import grow

pytestmark = pytest.mark.alone

ONE_SESSION = 0.06  # megabytes that a new session may add; before there was a bound it added 0.5
AT_ONCE = 1.0  # seconds in which nonsense is refused


def test_nonsense_is_answered_in_words_at_once_and_without_a_trace(running):
    heard = fuzz(running, 320)
    assert not [(one.wrong(), one.asked, one.answer) for one in heard if one.wrong()]
    refused = sorted(one.seconds for one in heard if one.status != 200)
    assert len(refused) > 150 and refused[int(0.95 * len(refused))] < AT_ONCE
    assert "Traceback" not in running.told()


def test_new_sessions_hardly_add_memory(running):
    held = dict(grow(running, 20, 160, 300))
    assert held[300] - held[160] < 140 * ONE_SESSION, held


def test_a_crowd_is_answered_and_leaves_nothing_behind(running):
    before = running.written()
    seen = crowd(running, clients=8, seconds=20)
    assert not seen.failed and len(seen.seconds["look-up"]) >= 8 and seen.left
    assert not [(one.wrong(), one.asked, one.answer) for one in seen.nonsense if one.wrong()]
    assert running.written() - before < 20e6
    assert "Traceback" not in running.told()


def test_the_table_of_a_crowd_says_what_was_met():
    """Worked by hand: 100 look-ups of 0.01 to 1 s, one failure, memory that grows by a tenth."""
    met = Seen(failed=["it broke"], full=[7], left=3, files=[1_000_000, 2_000_000])
    met.seconds["look-up"] = [0.01 * i for i in range(1, 101)]
    met.memory = [(0.0, 90.0), (1.0, 100.0), (3.0, 110.0), (4.0, 105.0)]
    table = {what.split(":")[0]: measured for what, _, measured in met.rows()}
    assert table["sensible questions that failed"] == "1"
    assert table["look-ups"] == "100; 0.95 s, 0.99 s"
    assert table["memory, first half and second"] == "100 MB, 110 MB (+10.0%)"
    assert table["temporary files, half-way and at the end"] == "1.0 MB and 2.0 MB"
    assert table["told honestly that too many wait; at most for"] == "1; 7 s"
