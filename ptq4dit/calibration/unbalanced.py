"""Running extremes of what is quantized beside the balanced layers: other linears' inputs, and q, k, v and softmax."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.calibration.attention_names import range_name
from ptq4dit.model.attention import Product, Products, tokens_of
from ptq4dit.model.families.registry import family_of
from ptq4dit.model.hooks import Hooks, first_argument
from ptq4dit.model.layers import extra_layers

_A_ROW = 2**22
"""Probabilities that are looked at of each row: those of all 512 tokens in 16 heads, of 38 of FLUX's 4,608."""
_AT_ONCE = 2**24
"""Probabilities that are formed at a time."""


class ExtraRanges:
    """Smallest and largest values per channel, site and observed timestep; see `Calibration.extra_min`.

    An attention is the innermost module that asks torch for a product, inside a block.
    """

    def __init__(self) -> None:
        self.position: int | None = None
        self._extremes: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
        self._irregular: set[str] = set()
        self._here = _Here()

    def watch(self, transformer: nn.Module, hooks: Hooks) -> None:
        """Hook a DiT's other layers, and the attentions in any transformer's blocks."""
        for name, layer in extra_layers(transformer).items():
            hooks.before(layer.linears[0], partial(self._given, name))
        for block in family_of(transformer).blocks(transformer):
            for path, module in transformer.get_submodule(block).named_modules(prefix=block):
                if next(module.children(), None) is not None:
                    hooks.before(module, partial(self._begin, range_name(transformer, path)))
                    hooks.after(module, self._end, always=True)

    def enter(self) -> None:
        """A forward pass begins, of which `position` says the timestep."""
        self._here.running.clear()
        if self._here.mode is None:  # else one of before was interrupted
            self._here.mode = _Watched(self._product)
            self._here.mode.__enter__()

    def leave(self) -> None:
        """The forward pass ended, or failed."""
        if self._here.mode is not None:
            self._here.mode.__exit__(None, None, None)
            self._here.mode = None

    def stacked(self, end: str, count: int) -> dict[str, Float[Tensor, "timestep channel"]]:
        """Site -> ``(T, channels)``, the smallest values for ``"low"``, the largest for ``"high"``.

        What was not seen at each of the ``count`` timesteps, or with other channels at some, is left out.
        """
        side = 0 if end == "low" else 1
        return {
            site: torch.stack([seen[position][side] for position in sorted(seen)])
            for site, seen in self._extremes.items()
            if len(seen) == count and site not in self._irregular
        }

    def _given(self, name: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._observe(name, first_argument(args, kwargs))

    def _begin(self, name: str, _module: nn.Module, _args: object, _kwargs: object) -> None:
        self._here.running.append(name)

    def _end(self, _module: nn.Module, _args: object, _output: object) -> None:
        if self._here.running:
            self._here.running.pop()

    @torch.no_grad()
    def _product(self, product: Product) -> None:
        if self.position is None or not self._here.running:
            return
        name = self._here.running[-1]
        for part in ("q", "k", "v"):
            self._observe(f"{name}.{part}", tokens_of(getattr(product, part)))
        self._observe(f"{name}.softmax", _extreme_probabilities(product))

    def _observe(self, site: str, x: Tensor) -> None:
        if self.position is None:
            return
        values = x.detach().reshape(-1, 1 if site == "patch_embed" else x.shape[-1])
        dtype = torch.promote_types(x.dtype, torch.float32)
        low, high = values.amin(dim=0).to("cpu", dtype), values.amax(dim=0).to("cpu", dtype)
        seen = self._extremes.setdefault(site, {})
        if any(low.shape != other.shape for other, _ in seen.values()):
            self._irregular.add(site)
        elif self.position in seen:
            low, high = torch.minimum(low, seen[self.position][0]), torch.maximum(high, seen[self.position][1])
        seen[self.position] = low, high


class _Here(threading.local):
    """What runs in this thread: the names of the modules, innermost last, and what catches their products."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.mode: _Watched | None = None


class _Watched(Products):
    """Shows each product before it is computed."""

    def __init__(self, show: Callable[[Product], None]) -> None:
        super().__init__()
        self._show = show

    def product(self, product: Product, plain: Callable[[], Tensor]) -> Tensor:
        self._show(product)
        return plain()


def _extreme_probabilities(product: Product) -> Float[Tensor, "end 1"]:
    """The smallest and the largest probability, of tokens spread evenly over all where they are too many for all.

    How many a row has does not depend on how many rows there are: batches of any size see the same.
    """
    wide = torch.promote_types(product.q.dtype, torch.float32)
    tokens, keys = product.q.shape[-2], product.k.shape[-2]
    heads = product.q.shape[1:-2].numel() if product.q.ndim > 3 else 1
    count = min(tokens, max(1, _A_ROW // (heads * keys)))
    seen = torch.arange(count, device=product.q.device) * tokens // count
    visible, key = product.visible(), product.k.to(wide)
    size = max(1, _AT_ONCE // (product.q[..., 0, 0].numel() * keys))
    ends = []
    for rows in seen.split(size):
        varies = visible is not None and visible.ndim > 1 and visible.shape[-2] == tokens
        mask = visible[..., rows, :] if visible is not None and varies else visible
        q = product.q[..., rows, :].to(wide)
        found = replace(product, q=q, k=key, mask=mask, causal=False).probabilities()
        ends += [found.amin(), found.amax()]
    return torch.stack(ends)[:, None]
