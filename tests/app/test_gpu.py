"""A Space's GPU is asked for as long as the steps take, used by both ways to draw, and done without when refused."""

import importlib.util
import sys
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest

from app.services import generation, gpu
from app.services.generation import Frame
from app.services.request import Request, Variant

W4A8 = Variant(weight_bits=4, activation_bits=8, csb=True, ssc=True)
STEPS = 3


def ask(**changes):
    return Request(**({"model": "tiny", "class_id": 1, "steps": STEPS, "variants": (W4A8,)} | changes))


@pytest.fixture
def space(monkeypatch):
    """A Space's package that lends this machine's processor for a GPU, unless it refuses; what it was asked for."""
    lent = SimpleNamespace(seconds=[], refuses=False, breaks_at=None)

    def lend(duration):
        def decorate(function):
            def run(*arguments):
                lent.seconds.append(duration(*arguments))
                if lent.refuses:
                    raise RuntimeError("You have exceeded your GPU quota")
                for number, value in enumerate(function(*arguments)):
                    if number == lent.breaks_at:
                        raise RuntimeError("GPU task aborted")
                    yield value

            return run

        return decorate

    package = SimpleNamespace(GPU=lend, __spec__=importlib.util.find_spec("sys"))
    monkeypatch.setitem(sys.modules, "spaces", package)
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(generation, "_by_gpu", gpu.on_gpu(generation._frames, generation._gpu_seconds))
    return lent


def test_without_the_package_there_is_no_gpu_to_ask_for(monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert gpu.on_gpu(generation._frames, generation._gpu_seconds) is None


def test_both_ways_to_draw_use_it_and_draw_what_is_drawn_without(space, explored_model, monkeypatch):
    with_it = generation.single(ask()), [*generation.run(ask())][-1]
    monkeypatch.setattr(generation, "_by_gpu", None)
    without = generation.single(ask()), [*generation.run(ask())][-1]
    assert len(space.seconds) == 2
    assert np.array_equal(with_it[0], without[0])
    assert np.abs(with_it[0].astype(int) - with_it[1].pictures[1]).max() <= 1  # rows beside it may round it otherwise
    assert with_it[1].psnr == without[1].psnr and with_it[1].drift == without[1].drift


def test_it_is_asked_for_as_long_as_the_steps_of_all_contenders_take(space, explored_model):
    generation.single(ask())
    generation.single(ask(steps=2 * STEPS))
    [*generation.run(ask())]
    one, twice, two = space.seconds
    assert one < twice == two
    assert generation._gpu_seconds(Frame(request=ask(steps=250), note=""), False) == pytest.approx(
        generation.GPU_START + generation.GPU_STEP * 500
    )
    assert all(isinstance(seconds, int) and 10 < seconds <= gpu.LONGEST for seconds in space.seconds)


@pytest.mark.parametrize("breaks_at", [None, 1])
def test_refused_or_taken_away_the_processor_draws(space, explored_model, breaks_at):
    space.refuses, space.breaks_at = breaks_at is None, breaks_at
    frames = [*generation.run(ask())]
    assert frames[-1].finished and any("No GPU is free" in frame.note for frame in frames)
    assert generation.single(ask()).shape == frames[-1].pictures[1].shape


def test_what_is_wrong_with_the_question_is_no_refusal(space, explored_model, monkeypatch):
    def wrong(*_, **__):
        raise ValueError("sampler: expected another one")

    monkeypatch.setattr(generation, "_trajectory", wrong)
    with pytest.raises(ValueError, match="sampler: expected another one"):
        generation.single(ask())
    assert len(space.seconds) == 1


def test_a_cancelled_run_asks_for_no_more_frames(space, explored_model):
    stop, seen = Event(), []
    for frame in generation.run(ask(steps=20), stop):
        seen.append(frame)
        if frame.step == 2:
            stop.set()
    assert seen[-1].step <= 3 and not seen[-1].finished
