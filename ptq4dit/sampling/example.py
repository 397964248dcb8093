"""One call of a model's transformer, as sampling makes it: for what has to see a forward before it works."""

from contextlib import suppress
from typing import Any

from torch import nn

from ptq4dit.model.bundle import Dit
from ptq4dit.model.families.family import Call
from ptq4dit.model.hooks import Hooks
from ptq4dit.sampling.denoise import denoise


class _ReachedError(Exception):
    """The transformer was called: what follows need not be computed."""


def example_call(model: Dit) -> Call:
    """The arguments of the first step of sampling one image, with guidance where the model has it."""
    caught: list[Call] = []

    def catch(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught.append(Call(args=args, kwargs=dict(kwargs)))
        raise _ReachedError

    what: dict[str, Any] = {"prompts": ["a picture"]} if model.text_conditioned else {"class_labels": [0]}
    with Hooks() as hooks, suppress(_ReachedError):
        hooks.before(model.transformer, catch)
        list(denoise(model, steps=2, whole=True, **what))
    return caught[0]
