"""What a plain call of a DiT has seen: the modulation of each (timestep, class), so that it is computed once."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from jaxtyping import Int, Real
from torch import Tensor

from ptq4dit.model.forward import Modulation

_BYTES = 128 * 2**20
"""Remembered at most: of DiT-XL/2 163 pairs, more than a guided run of 50 steps asks for."""
_Pair = tuple[float | int, int]


class SeenModulations:
    """The modulations that were used last, by (timestep, class); of bounded size."""

    def __init__(self, limit: int = _BYTES) -> None:
        """Nothing is remembered yet.

        Args:
            limit: bytes that are remembered.
        """
        self._limit, self._held, self._lock = limit, 0, Lock()
        self._rows: OrderedDict[_Pair, tuple[Tensor, Tensor]] = OrderedDict()

    def batch(
        self,
        make: Callable[[Tensor, Tensor], Modulation],
        timesteps: Real[Tensor, " row"],
        labels: Int[Tensor, " row"],
    ) -> Modulation:
        """The rows' modulation; ``make`` is asked for those pairs that are not remembered, each once."""
        pairs = list(zip(timesteps.tolist(), labels.tolist(), strict=True))
        first = {pair: index for index, pair in reversed(list(enumerate(pairs)))}
        with self._lock:
            rows: dict[Any, tuple[Tensor, Tensor]] = {p: self._rows[p] for p in first if p in self._rows}
        missing = [pair for pair in first if pair not in rows]
        if missing:
            chosen = torch.tensor([first[pair] for pair in missing], device=labels.device)
            made = make(timesteps[chosen], labels[chosen])
            for index, pair in enumerate(missing):
                rows[pair] = made.blocks[index].clone(), made.final[index].clone()
        with self._lock:
            self._keep(rows)
        blocks = torch.stack([rows[pair][0] for pair in pairs], dim=2)
        final = torch.stack([rows[pair][1] for pair in pairs], dim=1)
        return Modulation(blocks=blocks.permute(2, 0, 1, 3), final=final.transpose(0, 1), timesteps=timesteps)

    def _keep(self, rows: dict[_Pair, tuple[Tensor, Tensor]]) -> None:
        for pair, row in rows.items():
            if pair not in self._rows:
                self._held += _size(row)
            self._rows[pair] = row
            self._rows.move_to_end(pair)
        while self._held > self._limit:
            self._held -= _size(self._rows.popitem(last=False)[1])


def _size(row: tuple[Tensor, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in row)
