"""Calls timed in turn: one of each contestant a round, so that whatever disturbs the machine disturbs them all."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from ptq4dit.speed.contestants.contestant import Call

_REWARM_BELOW_S = 0.1
_PAUSE_S = 0.003
"""Between contestants: a runtime's idle threads spin for about a millisecond and would slow the next one."""


def time_in_turn(
    calls: Mapping[str, Call], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each call in each round.

    A call under 0.1 s is timed right after an untimed one: in a sampling loop its weights are in the cache, which the
    other contestants have just emptied.

    Args:
        calls: warmed up here, by two calls each.
        rounds: timed calls of each.
        clock: tells seconds; `time.process_time` leaves out those that others had the processor.
    """
    seconds: dict[str, list[float]] = {key: [] for key in calls}
    usual = {}
    for key, call in calls.items():
        call()
        usual[key] = _timed(call, clock)
    for _ in range(rounds):
        for key, call in calls.items():
            time.sleep(_PAUSE_S)
            if usual[key] < _REWARM_BELOW_S:
                call()
            seconds[key].append(_timed(call, clock))
    return seconds


def summary(seconds: list[float]) -> dict[str, Any]:
    """Median and quartiles in milliseconds."""
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    return {
        "ms": round(middle * 1e3, 3),
        "ms_quartiles": [round(low * 1e3, 3), round(high * 1e3, 3)],
        "rounds": len(seconds),
    }


def ratio(baseline: list[float], other: list[float]) -> dict[str, Any]:
    """How many times faster than the baseline, round by round: median and quartiles."""
    each = [slow / fast for slow, fast in zip(baseline, other, strict=True)]
    low, middle, high = statistics.quantiles(each, n=4, method="inclusive") if len(each) > 1 else each * 3
    return {"speedup": round(middle, 3), "speedup_quartiles": [round(low, 3), round(high, 3)]}


def _timed(call: Call, clock: Callable[[], float]) -> float:
    begun = clock()
    call()
    return clock() - begun
