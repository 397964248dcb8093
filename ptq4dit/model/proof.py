"""Prove on the model at hand that folding changed nothing: the same call before and after, in the model's precision."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ptq4dit.model.families.family import Call, Site
from ptq4dit.model.families.registry import family_of
from ptq4dit.model.hooks import Hooks

MARGIN = 4
"""A difference is beyond rounding where it is so many times what one rounding of every layer's input makes.

Folding right made 0.2 to 1.4 times that on small random models of every family, in float32, bfloat16 and float16."""
ROWS = 256
"""Tokens looked at in every layer when the first layer to differ is sought."""


@torch.no_grad()
def prove(transformer: nn.Module, folded: nn.Module, call: Call) -> float:
    """Run one call on a model before and after folding and compare the outputs.

    What rounding may change is measured, not assumed: a third forward of the given model moves the input of every
    layer by up to one rounding step (float32's in float64, since some attentions compute in float32), and `MARGIN`
    times the difference that this makes is allowed. A fourth shows that the forward repeats itself.

    Args:
        transformer: the float model.
        folded: `reparameterize(transformer, factors)`.
        call: an example call. Neither model is changed.

    Returns:
        The difference, relative to the norm of the output.

    Raises:
        ValueError: if the outputs differ by more than rounding, naming the first layer that does: a forward other than
            the family's, an adapter, shared weights; or if the model does not give the same output twice, or none that
            is finite.
    """
    sites = family_of(transformer).sites(transformer)
    before, again = (_flat(call.on(transformer)) for _ in range(2))
    if not torch.isfinite(before).all():
        raise ValueError(
            "Expected a finite output to compare, got nan or infinity from the model itself. Load it in another dtype."
        )
    step = _step(next(iter(transformer.parameters())).dtype)
    if _difference(before, again) > step**0.5 / 4:
        raise ValueError(
            "Expected the same output twice, got two that differ: the forward is random. Call transformer.eval() to "
            "turn dropout off, or give the call its own seed."
        )
    difference = _difference(before, _flat(call.on(folded)))
    with _rounded_inputs(transformer, sites):
        allowed = MARGIN * max(_difference(before, _flat(call.on(transformer))), step)
    if not difference <= allowed:
        first = _first_to_differ(transformer, folded, call, sites)
        raise ValueError(
            f"Expected the same output after folding, got one that differs by {difference:.1e} where rounding explains "
            f"{allowed:.1e}; {first}. The forward is not the one that diffusers' {type(transformer).__name__} has. "
            "Detach what was added to it, or give its class another name, and the generic family takes it."
        )
    return difference


def _first_to_differ(transformer: nn.Module, folded: nn.Module, call: Call, sites: Mapping[str, Site]) -> str:
    before, after = _layer_outputs(transformer, call, sites), _layer_outputs(folded, call, sites)
    with _rounded_inputs(transformer, sites):
        rounded = _layer_outputs(transformer, call, sites)
    names = {path: name for name, site in sites.items() for path in site.paths}
    step = _step(next(iter(transformer.parameters())).dtype)
    for path, output in before.items():
        explained = MARGIN * max(_unscaled_difference(output, rounded[path]), step)
        if not _unscaled_difference(output, after[path]) <= explained:
            return f"the first layer to differ is {names[path]!r}"
    return "no layer's own output does, so that it happens behind the last one"


def _layer_outputs(transformer: nn.Module, call: Call, sites: Mapping[str, Site]) -> dict[str, Tensor]:
    """Of every layer's output ``(token, channel)``, a few tokens, in the order of the forward."""
    outputs: dict[str, Tensor] = {}

    def keep(path: str, module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        rows = output.movedim(1, -1) if isinstance(module, nn.Conv2d) else output
        outputs[path] = rows.flatten(0, -2)[:ROWS].double().cpu()

    with Hooks() as hooks:
        for path in _paths(sites):
            hooks.after(transformer.get_submodule(path), partial(keep, path))
        call.on(transformer)
    return outputs


def _unscaled_difference(before: Tensor, after: Tensor) -> float:
    """The difference left when every channel of ``before`` may take a factor: folding may scale a layer's rows."""
    scale = (before * after).sum(dim=0) / before.square().sum(dim=0).clamp(min=torch.finfo(before.dtype).tiny)
    return _difference(before * scale, after)


@contextmanager
def _rounded_inputs(transformer: nn.Module, sites: Mapping[str, Site]) -> Iterator[None]:
    generator = torch.Generator().manual_seed(0)

    def move(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        given = args[0]
        noise = torch.rand(given.shape, generator=generator, dtype=torch.float32).to(given.device) * 2 - 1
        moved = given.double() * (1 + _step(given.dtype) * noise.double())
        return (moved.to(given.dtype), *args[1:]), kwargs

    with Hooks() as hooks:
        for path in _paths(sites):
            hooks.before(transformer.get_submodule(path), move)
        yield


def _paths(sites: Mapping[str, Site]) -> list[str]:
    return [path for site in sites.values() for path in site.paths]


def _step(dtype: torch.dtype) -> float:
    return max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


def _difference(before: Tensor, after: Tensor) -> float:
    return float((after - before).norm() / before.norm().clamp(min=torch.finfo(before.dtype).tiny))


def _flat(output: Any) -> Tensor:
    """All tensors of an output, one after the other."""
    if isinstance(output, Tensor):
        return output.double().flatten().cpu()
    parts = list(output.values() if isinstance(output, Mapping) else output)
    return torch.cat([_flat(part) for part in parts])
