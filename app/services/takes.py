"""One drawing of a changed model: what is changed in it, the model that it is drawn by, and drawings that are kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from app.services.cache import shared
from app.services.effect import granularity
from app.services.inspection import layer_view
from app.services.models import explored
from app.services.request import FLOAT_BITS, Request
from app.services.sites import site, sites

if TYPE_CHECKING:
    from torch import Tensor

    from ptq4dit import Dit
    from ptq4dit.methods.channels import ChannelChange

EVERY = "*"  # the scope of a change to every layer
BYTES = 64 * 2**20  # of pictures that are kept of one model


@dataclass(frozen=True, kw_only=True)
class Take:
    """One drawing: of what, and what is changed meanwhile; all else stays in float.

    scope: a layer, EVERY, or "" for nothing changed; bits: of weights and activations; tokens: with a scale for every
    token's input; balanced: with CSB + SSC;
    kept: channels that stay in float; top: as many of the most salient ones; gain: what `channel` is multiplied by.
    """

    request: Request
    pictures: int = 1
    scope: str = ""
    bits: tuple[int, int] = (FLOAT_BITS, FLOAT_BITS)
    tokens: bool = False
    balanced: bool = False
    kept: tuple[int, ...] = ()
    top: int = 0
    channel: int = -1
    gain: float = 1.0


def changed(take: Take) -> Dit:
    """The model that a take is drawn by; it shares all that is not changed with the float model."""
    from ptq4dit import QuantConfig
    from ptq4dit.methods.channels import change_channels

    model, strength = take.request.model, take.request.strength
    chosen = explored(model, strength)
    if not take.scope:
        return chosen.dit
    weight_bits, activation_bits = take.bits
    bits: dict[str, Any] = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    config = QuantConfig(**bits, **granularity(take.tokens), csb=False, ssc=False)
    names = chosen.stats.layers if take.scope == EVERY else [take.scope]
    changes = {name: _change(take, name) for name in names}
    return change_channels(chosen.dit, chosen.stats, config, changes, layers=sites(model, strength))


def _change(take: Take, name: str) -> ChannelChange:
    """What a take does to one layer."""
    import torch

    from ptq4dit.methods.channels import ChannelChange
    from ptq4dit.paper.salience import most_salient

    model, strength = take.request.model, take.request.strength
    if take.channel >= 0:
        return ChannelChange(rounded=False, gains={take.channel: take.gain})
    factor = None
    if take.balanced and site(model, name).balanced:
        factor = torch.from_numpy(layer_view(model, name, True, True, strength).factors)
    salience = explored(model, strength).stats.activation_salience[name]
    return ChannelChange(kept=(*take.kept, *most_salient(salience, take.top)), factor=factor)


class Album:
    """Pictures by take, the one asked for least lately gives way once they take more than `BYTES`."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pictures: OrderedDict[Take, Tensor] = OrderedDict()

    def get(self, take: Take) -> Tensor | None:
        """The pictures of a take, where they are kept."""
        with self._lock:
            if take in self._pictures:
                self._pictures.move_to_end(take)
            return self._pictures.get(take)

    def put(self, take: Take, pictures: Tensor) -> None:
        """Keep them."""
        with self._lock:
            self._pictures[take] = pictures
            while len(self._pictures) > 1 and sum(one.nbytes for one in self._pictures.values()) > BYTES:
                self._pictures.popitem(last=False)


@shared(maxsize=4)
def album(model: str) -> Album:
    """The pictures that are kept of a model, and go with it."""
    return Album()
