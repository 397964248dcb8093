"""The layer map: which layers of a transformer are quantized, and what makes each one's input."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ptq4dit.model.families.absorber import InputFactor, absorbed_channels
from ptq4dit.model.families.family import Call, Site
from ptq4dit.model.families.plain import plain_linear, require_own_kind
from ptq4dit.model.families.registry import family_of
from ptq4dit.model.streamed import parameters

ROLES = ("qkv", "proj", "fc1", "fc2")
"""Roles of the DiT's sites."""
EXTRA_ROLES = ("patch_embed", "conditioning", "modulation", "final_layer")
"""Roles of the layers outside the sites, and the names of their switches in `QuantConfig`."""
OUTSIDE = InputFactor(why="it is not balanced")


@dataclass(frozen=True, kw_only=True)
class Layer(Site):
    """A `Site` with its modules, or a layer outside the sites (see `extra_layers`).

    Attributes:
        linears: those that share the input; a convolution where that is one.
        inside: it is a site: balanced, rotated, given a float branch where the config says so.
        balanced_by_default: what nothing in front absorbs is balanced unless the config says otherwise.
    """

    linears: tuple[nn.Linear | nn.Conv2d, ...]
    inside: bool = True
    balanced_by_default: bool = True

    @property
    def in_features(self) -> int:
        """Number of input channels; of a convolution, values in one patch."""
        return self.linears[0].weight[0].numel()

    @property
    def absorbs(self) -> bool:
        """Whether something in front takes a factor in, of all channels or of some."""
        return self.inside and bool(absorbed_channels(self.absorber, self.in_features).any())

    @property
    def absorbs_all(self) -> bool:
        """Whether something in front takes the factors of all channels in."""
        return self.inside and bool(absorbed_channels(self.absorber, self.in_features).all())


def balanced_layers(transformer: nn.Module, call: Call | None = None) -> dict[str, Layer]:
    """List the sites of a float transformer in the order in which a forward pass meets them.

    Those that nothing can absorb a factor in front of (``fc2``, behind the GELU) are listed as well: they are
    calibrated and quantized like the others.

    Args:
        transformer: a float diffusers transformer of any family.
        call: for a model that no family's file describes: a call that is watched once to see which linears share an
            input (`ptq4dit.model.families.generic`).

    Returns:
        Site name -> layer.

    Raises:
        ValueError: if the model has no repeated blocks, or its linears have been replaced (it is quantized already).
    """
    family = family_of(transformer)
    return {
        name: Layer(
            **vars(site),
            linears=tuple(plain_linear(transformer, path) for path in site.paths),
            balanced_by_default=family.balances_inputs,
        )
        for name, site in family.sites(transformer, call).items()
    }


_EXTRAS_OF_BLOCK: tuple[tuple[str, str, str], ...] = (
    ("time_embed.0", "conditioning", "norm1.emb.timestep_embedder.linear_1"),
    ("time_embed.1", "conditioning", "norm1.emb.timestep_embedder.linear_2"),
    ("modulation", "modulation", "norm1.linear"),
)


def extra_layers(transformer: nn.Module) -> dict[str, Layer]:
    """The layers outside the sites that PTQ4DiT quantizes too, each switched by its role in `QuantConfig`.

    Of the DiT: ``patch_embed`` (a convolution with one kernel position a patch), ``blocks.<i>.time_embed.0`` and
    ``.1`` (the conditioning MLP, of which diffusers keeps a copy in every block), ``blocks.<i>.modulation`` (adaLN),
    ``final.modulation`` and ``final.linear``. None of other families. Nothing is balanced in front of them.

    Raises:
        ValueError: if they have been replaced (the model is quantized already).
    """
    family = family_of(transformer)
    if family.name != "dit":
        return {}
    places: list[tuple[str, str, str | None, str]] = [("patch_embed", "patch_embed", None, "pos_embed.proj")]
    for index, block in enumerate(family.blocks(transformer)):
        places += [(f"blocks.{index}.{name}", role, block, f"{block}.{path}") for name, role, path in _EXTRAS_OF_BLOCK]
    places += [
        ("final.modulation", "final_layer", None, "proj_out_1"),
        ("final.linear", "final_layer", None, "proj_out_2"),
    ]
    return {
        name: Layer(
            name=name,
            role=role,
            block=block,
            paths=(path,),
            linears=(plain_linear(transformer, path),),
            absorber=OUTSIDE,
            inside=False,
        )
        for name, role, block, path in places
    }


def get_layer(transformer: nn.Module, name: str) -> Layer:
    """Look one site up by name.

    Raises:
        ValueError: if there is no such site; the message names those that exist.
    """
    layers = balanced_layers(transformer)
    if name not in layers:
        raise ValueError(unknown_layer(name, layers))
    return layers[name]


def require_finite(transformer: nn.Module) -> None:
    """Refuse a model with nan or infinite weights, or weights of another package's kind, naming the first one.

    Raises:
        ValueError: if there is one.
    """
    for name, parameter in parameters(transformer):
        require_own_kind(name, parameter)
        if not torch.isfinite(parameter).all():
            raise ValueError(
                f"Expected finite weights, got nan or infinity in {name!r}. Load the model again, with "
                "dtype=torch.float32 if it overflowed."
            )


def unknown_layer(name: str, layers: Mapping[str, Site]) -> str:
    """The message for a site that the model does not have."""
    known, roles = list(layers), dict.fromkeys(site.role for site in layers.values())
    return f"Unknown layer {name!r}. Expected one of {known[0]!r} ... {known[-1]!r}, roles {', '.join(roles)}."
