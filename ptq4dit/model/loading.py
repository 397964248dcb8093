"""Diffusers reads one model at a time, and nobody else in this process notices."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import accelerate
from torch import nn

_ONE_AT_A_TIME = threading.RLock()
_REGISTER = nn.Module.register_parameter
"""Torch's own, held before anything replaces it."""
_empty = threading.local()
"""How many `empty_here` this thread is in."""


@contextmanager
def loading() -> Iterator[None]:
    """A ``with`` block around diffusers' ``from_pretrained`` and other places that build a model without its values.

    There `accelerate.init_empty_weights` replaces ``nn.Module.register_parameter`` for *all* threads: a layer that
    another thread builds meanwhile has no values, and of two threads that load at once the second puts the replacement
    of the first back when it ends, after which no layer of the process has values any more. In this block the
    replacement is for this thread alone, one thread loads at a time, and torch's own function is there behind it.
    Bars about the files that are read are not shown: who waits longer than a moment is told by whoever called.
    """
    with _ONE_AT_A_TIME, _without_bars():
        names = vars(accelerate)
        former, names["init_empty_weights"] = names["init_empty_weights"], empty_here
        try:
            yield
        finally:
            names["init_empty_weights"] = former


@contextmanager
def _without_bars() -> Iterator[None]:
    """Neither diffusers nor, where it is there, transformers shows progress bars."""
    packages = [sys.modules.get(f"{name}.utils.logging") for name in ("diffusers", "transformers")]
    shown = [package for package in packages if package is not None and package.is_progress_bar_enabled()]
    for package in shown:
        package.disable_progress_bar()
    try:
        yield
    finally:
        for package in shown:
            package.enable_progress_bar()


@contextmanager
def empty_here() -> Iterator[None]:
    """Parameters that this thread registers have a shape and no values (the meta device); buffers have theirs."""
    with _ONE_AT_A_TIME:
        _empty.depth = vars(_empty).get("depth", 0) + 1
        nn.Module.register_parameter = _register  # type: ignore
        try:
            yield
        finally:
            _empty.depth -= 1
            if not _empty.depth:
                nn.Module.register_parameter = _REGISTER  # type: ignore


def _register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
    _REGISTER(self, name, param)
    if param is not None and vars(_empty).get("depth"):
        kept: dict[str, Any] = {key: value for key, value in vars(param).items() if key != "_is_hf_initialized"}
        kept["requires_grad"] = param.requires_grad
        self._parameters[name] = type(param)(param.to("meta"), **kept)
