"""What takes a balancing factor in: the thing in front of a site that is linear in the site's input channels."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Range = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Modulation:
    """An adaLN: ``norm(z) * (1 + scale) + shift``, both made by rows of one linear (PTQ4DiT eqs. 17-19).

    Attributes:
        linear: path of that linear.
        shift: its rows (start, stop) that make the shift; None where there is none.
        scale: its rows that make the scale.
        one: the forward adds 1 to the scale, so that ``b - 1`` goes into the scale's bias.
    """

    linear: str
    shift: Range | None
    scale: Range
    one: bool = True


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows (and bias) of what is in front: a linear, a convolution, the gain of a norm.

    Attributes:
        paths: modules, each with one row for every channel; two where both streams of an attention bring values.
        rows: (start, stop) of their rows; None for all.
        repeats: heads in a row that read the same rows (grouped-query attention); their factors must be equal.
        width: channels of a head, where ``repeats`` is above 1.
    """

    paths: tuple[str, ...]
    rows: Range | None = None
    repeats: int = 1
    width: int = 1


@dataclass(frozen=True, kw_only=True)
class InputFactor:
    """Nothing in front can absorb a factor: the rounding multiplies the input by it, a scale for every channel.

    Attributes:
        why: what stands in front, for people.
    """

    why: str


@dataclass(frozen=True, kw_only=True)
class Split:
    """Columns that come from different places: ``((start, stop), absorber)`` in order, without gaps."""

    parts: tuple[tuple[Range, Modulation | Rows | InputFactor], ...]


Absorber = Modulation | Rows | InputFactor | Split


def absorbed_channels(absorber: Absorber, channels: int) -> Bool[Tensor, " channel"]:
    """Which of a site's ``channels`` inputs have somebody in front that absorbs their factor."""
    if isinstance(absorber, Split):
        return torch.cat([absorbed_channels(part, stop - start) for (start, stop), part in absorber.parts])
    return torch.full((channels,), not isinstance(absorber, InputFactor))


def absorbing_paths(absorber: Absorber) -> Iterator[str]:
    """The modules whose weights take a factor in."""
    if isinstance(absorber, Split):
        for _, part in absorber.parts:
            yield from absorbing_paths(part)
    elif isinstance(absorber, Rows):
        yield from absorber.paths
    elif isinstance(absorber, Modulation):
        yield absorber.linear


def split_factor(
    absorber: Absorber, factor: Float[Tensor, " channel"]
) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    """A site's ``b_x`` as the part that is folded into the weights and the part that is left to the rounding.

    Returns:
        Two factors, ones where the other acts; their product is ``factor``.
    """
    absorbed = absorbed_channels(absorber, factor.shape[0]).to(factor.device)
    return torch.where(absorbed, factor, 1.0).to(factor.dtype), torch.where(absorbed, 1.0, factor).to(factor.dtype)


def shared_maximum(absorber: Absorber, salience: Float[Tensor, " channel"]) -> Float[Tensor, " channel"]:
    """The largest salience over the channels that must share one factor (repeated heads), given to each of them.

    Balancing factors made from such saliences of activation and weight are ones that `reparameterize` accepts.
    """
    if isinstance(absorber, Split):
        return torch.cat([shared_maximum(part, salience[start:stop]) for (start, stop), part in absorber.parts])
    if not isinstance(absorber, Rows) or absorber.repeats == 1:
        return salience
    heads = salience.unflatten(0, (-1, absorber.repeats, absorber.width))
    return heads.amax(dim=1, keepdim=True).expand_as(heads).flatten()
