"""The short forms of the load tests; the long ones are run by hand: `python tests/load/fuzz.py`, `.../sessions.py`."""

import pytest

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
