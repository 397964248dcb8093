"""Hooks see the calls of whoever set them, whatever other threads run on the same model."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import ptq4dit
from ptq4dit.model.hooks import Hooks
from ptq4dit.sampling.example import example_call
from ptq4dit.sampling.turns import in_turns


def elsewhere(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[list[Exception]]:
    """Do it again and again in another thread, which has done it once already; holds what went wrong there."""
    errors: list[Exception] = []
    once, end = threading.Event(), threading.Event()

    def again() -> None:
        while not end.is_set():
            try:
                work()
            except Exception as error:
                errors.append(error)
            once.set()

    thread = threading.Thread(target=again)
    thread.start()
    once.wait()
    try:
        yield errors
    finally:
        end.set()
        thread.join()


@pytest.fixture
def linear() -> nn.Linear:
    return nn.Linear(2, 2)


def test_calls_of_another_thread_are_not_seen(linear):
    seen = []
    with Hooks() as hooks:
        hooks.before(linear, lambda _module, args, _kwargs: seen.append(("before", len(args[0]))))
        hooks.after(linear, lambda _module, _args, output: seen.append(("after", len(output))))
        elsewhere(lambda: linear(torch.zeros(5, 2)))
        linear(torch.zeros(1, 2))
    assert seen == [("before", 1), ("after", 1)]
    linear(torch.zeros(2, 2))
    assert len(seen) == 2


def test_a_thread_that_works_for_this_one_is_seen(linear):
    seen = []

    def run(report):
        report(linear(torch.zeros(3, 2)))

    with Hooks() as hooks:
        hooks.before(linear, lambda _module, args, _kwargs: seen.append(len(args[0])))
        list(in_turns(run))
    assert seen == [3]


def test_everybody_is_seen_where_that_is_asked_for(linear):
    seen = []
    with Hooks(everybody=True) as hooks:
        hooks.before(linear, lambda _module, args, _kwargs: seen.append(len(args[0])))
        elsewhere(lambda: linear(torch.zeros(5, 2)))
    assert seen == [5]


def test_hooks_are_gone_after_an_error(linear):
    def refuse(*_call):
        raise KeyError

    with pytest.raises(KeyError), Hooks() as hooks:
        hooks.before(linear, refuse)
        linear(torch.zeros(1, 2))
    assert not linear._forward_pre_hooks


def test_a_calibration_is_the_same_while_others_draw_from_the_model(dit):
    config = ptq4dit.CalibrationConfig(timesteps=3, steps=3, samples_per_timestep=4)
    alone = ptq4dit.calibrate(dit, config)
    with meanwhile(lambda: list(ptq4dit.denoise(dit, [1], steps=2, guidance_scale=1.0))) as errors:
        beside = ptq4dit.calibrate(dit, config)
        data = ptq4dit.collect(dit, config, images=4, timesteps=3)
    assert errors == []
    assert beside.timesteps.tolist() == alone.timesteps.tolist()
    for layer, seen in alone.activation_salience.items():
        assert torch.equal(beside.activation_salience[layer], seen)
    assert len(data.timesteps) == 3 * 4 * 2  # of four pictures, both halves


def test_looking_for_an_example_ends_nobody_elses_picture(dit):
    with meanwhile(lambda: example_call(dit)) as errors:
        for _ in range(20):
            assert len(list(ptq4dit.denoise(dit, [1], steps=2))) == 2
    assert errors == []
