"""Lumina-Image 2.0 and Z-Image: norms with a gain in front of everything, a gated feed-forward, refiner blocks."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ptq4dit.model.families.absorber import Rows
from ptq4dit.model.families.family import Block, Family, Site, Stack
from ptq4dit.model.families.pieces import MODULATION_LEFT, QKV, under, values


def _lumina(block: Block) -> Iterator[Site]:
    """The gain stands in front of the modulation, which only multiplies, so it takes the whole factor."""
    norm = "norm1.norm" if block.module.modulation else "norm1"
    yield block.site("qkv", under("attn", QKV), Rows(paths=block.at(norm)))
    yield block.site("proj", ("attn.to_out.0",), _grouped_values(block))
    fc1 = ("feed_forward.linear_1", "feed_forward.linear_3")
    yield block.site("fc1", fc1, Rows(paths=block.at("ffn_norm1")))
    yield block.site("fc2", ("feed_forward.linear_2",), Rows(paths=block.at("feed_forward.linear_3")))


def _grouped_values(block: Block) -> Rows:
    """Grouped-query attention: several heads in a row read the same values."""
    made, read = block.shape("attn.to_v")[0], block.shape("attn.to_out.0")[1]
    attention: Any = block.module.get_submodule("attn")
    return replace(values(block, "attn.to_v"), repeats=read // made, width=read // attention.heads)


def _z_image(block: Block) -> Iterator[Site]:
    yield block.site("qkv", under("attention", QKV), Rows(paths=block.at("attention_norm1")))
    yield block.site("proj", ("attention.to_out.0",), values(block, "attention.to_v"))
    yield block.site("fc1", ("feed_forward.w1", "feed_forward.w3"), Rows(paths=block.at("ffn_norm1")))
    yield block.site("fc2", ("feed_forward.w2",), Rows(paths=block.at("feed_forward.w3")))


def _stacks(names: tuple[str, ...], sites: Callable[[Block], Iterator[Site]]) -> tuple[Stack, ...]:
    refiners = tuple(Stack(name=name, path=name, sites=sites, optional=True) for name in names)
    return (*refiners, Stack(name="blocks", path="layers", sites=sites))


FAMILY = Family(
    name="lumina2",
    classes=("Lumina2Transformer2DModel",),
    stacks=_stacks(("context_refiner", "noise_refiner"), _lumina),
    left={"norm1.linear": MODULATION_LEFT},
)

Z_IMAGE = Family(
    name="z_image",
    classes=("ZImageTransformer2DModel",),
    stacks=_stacks(("noise_refiner", "context_refiner", "siglip_refiner"), _z_image),
    left={"adaLN_modulation.0": MODULATION_LEFT},
)
