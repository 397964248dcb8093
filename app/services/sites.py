"""What the layers of a model are: their roles, what reads their input, whether anything balances them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.balancing import WAYS
from app.services.cache import shared
from app.services.models import explored
from app.state import brief

if TYPE_CHECKING:
    from ptq4dit.model.layers import Layer

_PLACED = re.compile(r"(?:(?P<stack>\w+)\.)?(?P<block>\d+)\.(?P<place>.+)")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a layer is.

    role: its part in its block; reads: the linears that read its input; balanced: something absorbs its factor, or it
    multiplies by it; itself: it does so, as it rounds its input, as nothing in front takes all of it; why: the reason.
    """

    role: str
    reads: tuple[str, ...]
    balanced: bool
    itself: bool
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a layer stands on the map: a row for each stack and place in a block, a column for each block."""

    row: str
    column: int


@shared(maxsize=16)
def sites(model: str, strength: int = 1) -> dict[str, Layer]:
    """The layers of a model, at a strength of the salience dial, as the engine lists them."""
    from ptq4dit.model.families import generic
    from ptq4dit.model.layers import balanced_layers
    from ptq4dit.sampling.example import example_call

    bundle = explored(model, strength).dit
    call = example_call(bundle) if bundle.family is generic.FAMILY else None
    return balanced_layers(bundle.transformer, call)


@shared(maxsize=4096)
def site(model: str, layer: str) -> Site:
    """What a layer is. Raises ValueError for an unknown one."""
    from ptq4dit.config.quantization import QuantConfig
    from ptq4dit.model.families.absorber import InputFactor
    from ptq4dit.quantized.balance import balances_itself

    require_layer(model, layer)
    found = sites(model)[layer]
    itself = balances_itself(found, QuantConfig())
    return Site(
        role=found.role,
        reads=tuple(path.removeprefix(f"{found.block}.") for path in found.paths),
        balanced=found.absorbs or itself,
        itself=itself,
        why=found.absorber.why if isinstance(found.absorber, InputFactor) else "",
    )


def require_layer(model: str, layer: str) -> None:
    """Raise ValueError, naming the layers there are, for one that is not among them."""
    layers = list(explored(model).stats.layers)
    if layer not in layers:
        raise ValueError(f"layer: expected one of {layers[0]} ... {layers[-1]} of {model}; got {brief(layer)}")


def variants_of(model: str, layer: str) -> list[str]:
    """The ways of balancing that a layer knows: one that neither the model nor its rounding balances has none."""
    return list(WAYS) if site(model, layer).balanced else ["none"]


def places(layers: list[str] | tuple[str, ...]) -> dict[str, Place]:
    """Layer -> its place on the map, by its name alone: "blocks.3.context.qkv" is in row "context.qkv", column 3.

    Where a model has several stacks of blocks, rows begin with their stack's name; a layer outside has column 0.
    """
    found = {name: _PLACED.fullmatch(name) for name in layers}
    several = len({match["stack"] for match in found.values() if match}) > 1
    rows = {}
    for name, match in found.items():
        if match is None:
            rows[name] = Place(row=name, column=0)
        else:
            row = f"{match['stack']} {match['place']}" if several and match["stack"] else match["place"]
            rows[name] = Place(row=row, column=int(match["block"]))
    return rows
