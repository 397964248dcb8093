"""Running extremes of what is quantized beside the balanced layers: other linears' inputs, and q, k, v and softmax."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.model.families.registry import family_of
from ptq4dit.model.hooks import Hooks, first_argument
from ptq4dit.model.layers import extra_layers


class ExtraRanges:
    """Smallest and largest values per channel, site and observed timestep; see `Calibration.extra_min`."""

    def __init__(self) -> None:
        self.position: int | None = None
        self._extremes: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
        self._queries: dict[int, Tensor] = {}

    def watch(self, transformer: nn.Module, hooks: Hooks) -> None:
        """Hook a DiT, whose other layers and attention are known; nothing of others."""
        if family_of(transformer).name != "dit":
            return
        for name, layer in extra_layers(transformer).items():
            hooks.before(layer.linears[0], partial(self._given, name))
        for index, block in enumerate(family_of(transformer).blocks(transformer)):
            attention = transformer.get_submodule(f"{block}.attn1")
            for part in ("q", "k", "v"):
                hook = self._after(index, part, int(attention.heads), float(attention.scale))  # type: ignore[arg-type]
                hooks.after(attention.get_submodule(f"to_{part}"), hook)

    def stacked(self, end: str) -> dict[str, Float[Tensor, "timestep channel"]]:
        """Site -> ``(T, channels)``, the smallest values for ``"low"``, the largest for ``"high"``."""
        side = 0 if end == "low" else 1
        return {
            site: torch.stack([seen[position][side] for position in sorted(seen)])
            for site, seen in self._extremes.items()
        }

    def _given(self, name: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._observe(name, first_argument(args, kwargs))

    def _after(self, index: int, part: str, heads: int, scale: float) -> Callable[..., None]:
        def observe(_module: nn.Module, _args: object, output: Tensor) -> None:
            if self.position is None:
                return
            self._observe(f"blocks.{index}.{part}", output)
            if part == "q":
                self._queries[index] = output
            elif part == "k":
                probabilities = _softmax(self._queries.pop(index), output, heads, scale)
                self._observe(f"blocks.{index}.softmax", probabilities.reshape(-1, 1))

        return observe

    def _observe(self, site: str, x: Tensor) -> None:
        if self.position is None:
            return
        values = x.detach().reshape(-1, 1 if site == "patch_embed" else x.shape[-1])
        dtype = torch.promote_types(x.dtype, torch.float32)
        low, high = values.amin(dim=0).to("cpu", dtype), values.amax(dim=0).to("cpu", dtype)
        seen = self._extremes.setdefault(site, {})
        if self.position in seen:
            low, high = torch.minimum(low, seen[self.position][0]), torch.maximum(high, seen[self.position][1])
        seen[self.position] = low, high


def _softmax(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    """``softmax(q k^T scale)`` per head, as the attention between these queries and keys forms it."""
    q, k = (tensor.detach().unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (query, key))
    return torch.softmax((q * scale) @ k.transpose(-1, -2), dim=-1)
