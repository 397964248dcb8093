"""Reading a model is nobody else's business: other threads build layers with values meanwhile, and ever after."""

import threading
from concurrent.futures import ThreadPoolExecutor

import accelerate
import diffusers
import pytest
import torch
from torch import nn

import ptq4dit
from ptq4dit.model.loading import empty_here, loading
from tests.ptq4dit.tiny_pipelines import PIPELINES

REGISTER = nn.Module.register_parameter


def built() -> str:
    return nn.Linear(2, 2).weight.device.type


def elsewhere() -> str:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(built).result()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loading")
    PIPELINES["sd3"]().save_pretrained(folder / "float")
    return folder / "float"


def test_empty_for_this_thread_alone():
    with empty_here():
        assert built() == "meta" and elsewhere() == "cpu"
        with empty_here():
            assert built() == "meta"
        assert built() == "meta"
        norm = nn.BatchNorm1d(2)
        assert norm.weight.device.type == "meta" and norm.running_mean.device.type == "cpu"
    assert built() == "cpu" and nn.Module.register_parameter is REGISTER


def test_a_frozen_parameter_stays_frozen():
    with empty_here():
        module = nn.Module()
        module.register_parameter("frozen", nn.Parameter(torch.ones(2), requires_grad=False))
        module.register_parameter("none", None)
    assert not module.frozen.requires_grad and module.frozen.is_meta and module.none is None


def test_one_loads_at_a_time():
    second = threading.Event()

    def load() -> None:
        with loading():
            second.set()

    with loading():
        thread = threading.Thread(target=load)
        thread.start()
        assert not second.wait(0.2)
    thread.join()
    assert second.is_set()


@pytest.mark.parametrize("first_out", ["ours", "theirs"])
def test_what_another_left_behind_is_cleared_away(first_out):
    """Another library's loading begins before ours and ends within or behind it."""
    theirs, ours = accelerate.init_empty_weights(), empty_here()
    theirs.__enter__()
    ours.__enter__()
    for block in (ours, theirs) if first_out == "ours" else (theirs, ours):
        block.__exit__(None, None, None)
    assert built() == "cpu" and elsewhere() == "cpu" and nn.Module.register_parameter is REGISTER


def test_diffusers_loading_is_within_ours(folder, monkeypatch, tmp_path):
    """Everything that reads a model, on threads that would have left the process without values."""

    def refuse(*_, **__):
        raise AssertionError("Expected a loading of ours, got accelerate's, which is for all threads.")

    monkeypatch.setattr(accelerate, "init_empty_weights", refuse)
    with pytest.raises(AssertionError, match="for all threads"):
        diffusers.SD3Transformer2DModel.from_pretrained(folder, subfolder="transformer")
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(lambda _: ptq4dit.load(str(folder)), range(4)))
    devices = {weight.device.type for bundle in loaded for weight in bundle.transformer.parameters()}
    assert devices == {"cpu"} and built() == "cpu"
