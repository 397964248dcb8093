"""A Space's GPU is asked for where the package is, and nothing changes where it is not."""

import importlib.util
import sys
from types import SimpleNamespace

from app.services import gpu


def test_without_the_package_a_function_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert gpu.on_gpu(len) is len


def test_with_it_the_gpu_is_asked_for(monkeypatch):
    asked = []

    def decorate(function):
        asked.append(function)
        return lambda *values: ("on a GPU", function(*values))

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=decorate, __spec__=None))
    monkeypatch.setattr(gpu, "find_spec", lambda name: importlib.util.find_spec("sys") if name == "spaces" else None)
    assert gpu.on_gpu(len)([1, 2]) == ("on a GPU", 2)
    assert asked == [len]
