"""The shared cache: bounded, worked out once however many ask, and failures are not kept."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from app.services.cache import forget_everything, forget_model, shared


def test_threads_asking_together_work_it_out_once():
    calls = []

    @shared(maxsize=4)
    def slow(key):
        calls.append(key)
        time.sleep(0.05)
        return object()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(slow, ["a"] * 8))
    assert calls == ["a"]
    assert len(set(map(id, results))) == 1


def test_the_oldest_result_makes_room():
    calls = []

    @shared(maxsize=2)
    def square(x):
        calls.append(x)
        return x * x

    assert [square(x) for x in (1, 2, 3, 1)] == [1, 4, 9, 1]
    assert calls == [1, 2, 3, 1]


def test_a_failure_is_tried_again_and_everything_can_be_forgotten():
    calls = []

    @shared(maxsize=2)
    def once_bad():
        calls.append(None)
        if len(calls) == 1:
            raise ValueError("not yet")
        return len(calls)

    with pytest.raises(ValueError, match="not yet"):
        once_bad()
    assert once_bad() == once_bad() == 2
    forget_everything()
    assert once_bad() == 3


def test_what_was_begun_before_it_was_forgotten_is_not_kept():
    """A model is opened anew while something is worked out of the one before."""
    weights, begun, go = ["old"], Event(), Event()

    @shared(maxsize=4)
    def seen(model):
        found = weights[0]
        if found == "old":
            begun.set()
            assert go.wait(30)
        return found

    with ThreadPoolExecutor(1) as pool:
        former = pool.submit(seen, "mine")
        assert begun.wait(30)
        weights[0] = "new"
        forget_model("mine")
        assert seen("mine") == "new"  # and waits for nobody
        go.set()
        assert former.result(timeout=30) == "old" and seen("mine") == "new"


def test_nobody_waits_for_what_another_key_takes():
    """A hit, and even another miss, is answered while a slow one is worked out."""
    begun, go = Event(), Event()

    @shared(maxsize=4)
    def square(x):
        if x == 3:
            begun.set()
            assert go.wait(30)
        return x * x

    assert square(2) == 4
    with ThreadPoolExecutor(3) as pool:
        slow = pool.submit(square, 3)
        assert begun.wait(30)
        assert pool.submit(square, 2).result(timeout=10) == 4
        assert pool.submit(square, 5).result(timeout=10) == 25
        assert not slow.done()
        go.set()
        assert slow.result(timeout=30) == 9


def test_a_key_is_one_however_it_is_named():
    calls = []

    @shared(maxsize=4)
    def named(a, b=1):
        calls.append((a, b))
        return a + b

    assert named(1, b=2) == named(1, b=2) == 3 and calls == [(1, 2)]
