"""The generic family on classes that no file knows, and on those that one does, as an oracle."""

import copy

import pytest
import torch
from torch import nn

from ptq4dit.model.families import generic
from ptq4dit.model.families.registry import family_of
from tests.ptq4dit.model.tiny_models import GENERIC, KNOWN, output_of, tiny


@pytest.mark.parametrize("name", GENERIC)
def test_linears_that_are_given_one_tensor_are_one_site(name):
    transformer, call = tiny(name)
    family = family_of(transformer)
    assert family.name == "generic"
    sites = family.sites(transformer, call)
    given = {}

    def keep(path, args):
        given[path] = args[0]

    paths = [path for site in sites.values() for path in site.paths]
    hooks = [
        transformer.get_submodule(path).register_forward_pre_hook(lambda _, args, path=path: keep(path, args))
        for path in paths
    ]
    output_of(transformer, call)
    for hook in hooks:
        hook.remove()
    groups = {}
    for path in paths:
        groups.setdefault((id(given[path]), path.split(".")[1]), set()).add(path)
    assert {frozenset(site.paths) for site in sites.values()} == {frozenset(group) for group in groups.values()}
    assert any(len(site.paths) == 3 for site in sites.values())
    assert {site.block for site in sites.values()} == set(family.blocks(transformer))


@pytest.mark.parametrize("name", [name for name in KNOWN if not name.startswith("dit")])
def test_finds_what_the_files_say(name):
    transformer, call = tiny(name)
    family = family_of(transformer)
    found = {frozenset(site.paths) for site in generic.FAMILY.sites(transformer, call).values()}
    assert found == {frozenset(site.paths) for site in family.sites(transformer).values()}
    assert sorted(generic.FAMILY.blocks(transformer)) == sorted(family.blocks(transformer))


def test_what_was_seen_stays_with_the_model_and_its_copies():
    transformer, call = tiny("wan")
    family = family_of(transformer)
    assert all(len(site.paths) == 1 for site in family.sites(transformer).values())
    sites = family.sites(transformer, call)
    assert sites["blocks.1.attn1_to_q_to_k_to_v"].paths == tuple(f"blocks.1.attn1.to_{name}" for name in "qkv")
    assert family.sites(transformer) == sites
    assert family.sites(copy.deepcopy(transformer)) == sites
    assert not any("ptq4dit" in name for name in transformer.state_dict())


def test_watching_leaves_no_hooks():
    transformer, call = tiny("wan")
    with generic.watching(transformer):
        output_of(transformer, call)
    assert not any(module._forward_pre_hooks for module in transformer.modules())
    assert len(generic.FAMILY.sites(transformer)) == 14


def test_a_tensor_gone_is_not_taken_for_a_later_one():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            y = self.a(x * 2)  # this product is freed before the next is made, often at the same address
            return x + y.mean() * self.b(x * 3)

    model = nn.Module()
    model.layers = nn.ModuleList([Two(), Two()])
    with generic.watching(model):
        for layer in model.layers:
            layer(torch.randn(2, 3, 4))
    assert len(generic.FAMILY.sites(model)) == 4


def test_a_model_without_repeated_blocks_is_refused():
    with pytest.raises(ValueError, match="Expected a transformer with repeated blocks"):
        generic.FAMILY.sites(nn.Sequential(nn.Linear(2, 2)))
