"""Which family a transformer belongs to, told by the names of its classes."""

from torch import nn

from ptq4dit.model.families import dit, flux, generic, lumina2, pixart, qwen, sana, sd3
from ptq4dit.model.families.family import Family

FAMILIES: tuple[Family, ...] = (
    dit.FAMILY,
    pixart.FAMILY,
    sd3.FAMILY,
    flux.FAMILY,
    sana.FAMILY,
    lumina2.FAMILY,
    lumina2.Z_IMAGE,
    qwen.FAMILY,
)
"""Those that a file describes; the generic family takes every other transformer."""


def family_of(transformer: nn.Module) -> Family:
    """The family of a transformer: that of its class, else of the nearest base class, else the generic one.

    Raises:
        ValueError: if it is wrapped by ``torch.compile``.
    """
    if hasattr(transformer, "_orig_mod"):
        raise ValueError(
            f"Expected the transformer itself, got torch.compile's {type(transformer).__name__} around it. Pass its "
            "`._orig_mod`, and compile the result."
        )
    known = {name: family for family in FAMILIES for name in family.classes}
    names = (base.__name__ for base in type(transformer).__mro__)
    return next((known[name] for name in names if name in known), generic.FAMILY)
