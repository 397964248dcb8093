"""Which linear layers of a diffusers DiT are quantized, what each one is for, and what produces its input."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Role = Literal["qkv", "proj", "fc1", "fc2", "patch_embed", "conditioning", "modulation", "final_layer"]
ROLES: tuple[Role, ...] = ("qkv", "proj", "fc1", "fc2")
BALANCED_ROLES: tuple[Role, ...] = ("qkv", "proj", "fc1")
"""Roles whose input a linear operation makes, so that it can absorb a balancing matrix (PTQ4DiT Fig. 7)."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One quantized site: a single input and the linears that read it.

    Attributes:
        name: ``"blocks.<i>.<role>"`` for the four roles of a block; see `extra_layers` for the others.
        block: index of the block in ``transformer.transformer_blocks``; None outside the blocks.
        role: ``"qkv"``, ``"proj"``, ``"fc1"`` or ``"fc2"``; for other layers the name of their switch in `QuantConfig`.
        linears: three linears that share one input for ``qkv``, else one (a convolution for ``patch_embed``).
        paths: their names inside the transformer, as in ``transformer.get_submodule(path)``.
    """

    name: str
    block: int | None
    role: Role
    linears: tuple[nn.Linear | nn.Conv2d, ...]
    paths: tuple[str, ...]

    @property
    def in_features(self) -> int:
        """Number of input channels; of a convolution, values in one patch."""
        return self.linears[0].weight[0].numel()


_PATHS: dict[Role, tuple[str, ...]] = {
    "qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "proj": ("attn1.to_out.0",),
    "fc1": ("ff.net.0.proj",),
    "fc2": ("ff.net.2",),
}


def balanced_layers(transformer: nn.Module) -> dict[str, Layer]:
    """List the quantized layers of a float DiT in the order in which a forward pass meets them.

    ``fc2`` is listed because it is calibrated and quantized like the others, but no balancing factor can be absorbed
    in front of it: the GELU between fc1 and fc2 is not linear.

    Args:
        transformer: a float diffusers ``DiTTransformer2DModel``.

    Returns:
        Layer name -> layer, four per block.

    Raises:
        ValueError: if the model has no DiT blocks, or its linears have been replaced (it is quantized already).
    """
    if not hasattr(transformer, "transformer_blocks"):
        raise ValueError(
            f"Expected a diffusers DiTTransformer2DModel, got {type(transformer).__name__} without "
            "`transformer_blocks`. Load one with ptq4dit.load(...) and pass its `.transformer`."
        )
    layers = {}
    blocks = transformer.get_submodule("transformer_blocks")
    for block in range(len(list(blocks.children()))):
        for role in ROLES:
            paths = tuple(f"transformer_blocks.{block}.{path}" for path in _PATHS[role])
            name = f"blocks.{block}.{role}"
            linears = tuple(_float_linear(transformer, path) for path in paths)
            layers[name] = Layer(name=name, block=block, role=role, linears=linears, paths=paths)
    return layers


_EXTRAS_OF_BLOCK: tuple[tuple[str, Role, str], ...] = (
    ("time_embed.0", "conditioning", "norm1.emb.timestep_embedder.linear_1"),
    ("time_embed.1", "conditioning", "norm1.emb.timestep_embedder.linear_2"),
    ("modulation", "modulation", "norm1.linear"),
)


def extra_layers(transformer: nn.Module) -> dict[str, Layer]:
    """The layers outside the four roles that PTQ4DiT quantizes too, each switched by its role in `QuantConfig`.

    ``patch_embed`` (a convolution with one kernel position a patch), ``blocks.<i>.time_embed.0`` and ``.1`` (the
    conditioning MLP, of which diffusers keeps a copy in every block), ``blocks.<i>.modulation`` (adaLN),
    ``final.modulation`` and ``final.linear``. Nothing is balanced in front of them.

    Raises:
        ValueError: if they have been replaced (the model is quantized already).
    """
    sites: list[tuple[str, int | None, Role, str]] = [("patch_embed", None, "patch_embed", "pos_embed.proj")]
    for block in range(len(list(transformer.get_submodule("transformer_blocks").children()))):
        sites += [
            (f"blocks.{block}.{name}", block, role, f"transformer_blocks.{block}.{path}")
            for name, role, path in _EXTRAS_OF_BLOCK
        ]
    sites += [
        ("final.modulation", None, "final_layer", "proj_out_1"),
        ("final.linear", None, "final_layer", "proj_out_2"),
    ]
    return {
        name: Layer(name=name, block=block, role=role, linears=(_float_linear(transformer, path),), paths=(path,))
        for name, block, role, path in sites
    }


def get_layer(transformer: nn.Module, name: str) -> Layer:
    """Look one layer up by name.

    Raises:
        ValueError: if there is no such layer; the message names those that exist.
    """
    layers = balanced_layers(transformer)
    if name not in layers:
        raise ValueError(unknown_layer(name, list(layers)))
    return layers[name]


def require_finite(transformer: nn.Module) -> None:
    """Refuse a model with nan or infinite weights, naming the first one."""
    for name, parameter in transformer.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(
                f"Expected finite weights, got nan or infinity in {name!r}. Load the model again, with "
                "dtype=torch.float32 if it overflowed."
            )


def unknown_layer(name: str, known: list[str]) -> str:
    """The message for a layer name that the model does not have."""
    return f"Unknown layer {name!r}. Expected one of {known[0]!r} ... {known[-1]!r}, roles {', '.join(ROLES)}."


def _float_linear(transformer: nn.Module, path: str) -> nn.Linear | nn.Conv2d:
    module = transformer.get_submodule(path)
    if not isinstance(module, nn.Linear | nn.Conv2d):
        raise ValueError(
            f"Expected a float nn.Linear at {path!r}, got {type(module).__name__}. "
            "The model is quantized already; start from the float model given by ptq4dit.load(...)."
        )
    return module
