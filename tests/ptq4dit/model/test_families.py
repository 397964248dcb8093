"""Every family on a tiny random model: what its file says is complete, stable and exact."""

import dataclasses
import functools

import pytest
import torch
from torch import nn

from ptq4dit.model.families.absorber import InputFactor, Modulation, Rows, Split, split_factor
from ptq4dit.model.families.registry import FAMILIES, family_of
from ptq4dit.paper import reparam
from ptq4dit.paper.reparam import reparameterize
from tests.ptq4dit.model.tiny_models import KNOWN, output_of, random_factors, relative_difference
from tests.ptq4dit.model.tiny_models import tiny as build

tiny = functools.cache(build)
TOLERANCE = {"sana": 1e-6}
"""Sana's attention computes in float32, in whatever precision the model is."""


def sites_of(name):
    transformer, _ = tiny(name)
    return family_of(transformer).sites(transformer)


@pytest.mark.parametrize("name", KNOWN)
def test_folding_every_factor_at_once_changes_nothing(name):
    transformer, call = tiny(name)
    factors = random_factors(transformer)
    folded = reparameterize(transformer, factors)
    before, after = output_of(transformer, call), output_of(folded, call)
    assert before.std() > 0.1
    assert relative_difference(before, after) < TOLERANCE.get(family_of(transformer).name, 1e-12)
    assert type(folded) is type(transformer)
    assert list(folded.state_dict()) == list(transformer.state_dict())


def wrong(absorber):
    """An absorber that misses something: shift and scale swapped, one of two streams left out, nothing scaled."""
    if isinstance(absorber, Split):
        return Split(parts=tuple((columns, wrong(part)) for columns, part in absorber.parts))
    if isinstance(absorber, Modulation) and absorber.shift is not None:
        return dataclasses.replace(absorber, shift=absorber.scale, scale=absorber.shift)
    return dataclasses.replace(absorber, paths=absorber.paths[1:]) if isinstance(absorber, Rows) else absorber


@pytest.mark.parametrize("name", KNOWN)
def test_a_wrong_absorber_is_seen(name, monkeypatch):
    """The test above could fail: for the first absorbing site of every role, a mistake in its absorber alone shows."""
    transformer, call = tiny(name)
    before, factors, sites = output_of(transformer, call), random_factors(transformer), sites_of(name)
    first = {site.name.split(".", 2)[-1]: site.name for site in reversed(sites.values()) if site.name in factors}
    assert len(first) >= 2
    for site in first.values():
        mistaken = sites | {site: dataclasses.replace(sites[site], absorber=wrong(sites[site].absorber))}
        family = type("Mistaken", (), {"sites": staticmethod(lambda _, mistaken=mistaken: mistaken)})
        monkeypatch.setattr(reparam, "family_of", lambda _, family=family: family)
        after = output_of(reparameterize(transformer, {site: factors[site]}), call)
        assert relative_difference(before, after) > 1e-3, site


@pytest.mark.parametrize("name", KNOWN)
def test_every_linear_inside_the_blocks_is_a_site_or_left_on_purpose(name):
    transformer, _ = tiny(name)
    family = family_of(transformer)
    inside = {
        f"{block}.{path}"
        for block in family.blocks(transformer)
        for path, module in transformer.get_submodule(block).named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    paths = [path for site in sites_of(name).values() for path in site.paths]
    left = {path for path in inside if path.endswith(tuple(f".{ending}" for ending in family.left))}
    assert len(set(paths)) == len(paths)
    assert set(paths) | left == inside
    assert not set(paths) & left


@pytest.mark.parametrize("name", KNOWN)
def test_names_roles_and_ties_agree(name):
    transformer, _ = tiny(name)
    sites, blocks = sites_of(name), family_of(transformer).blocks(transformer)
    assert [block for block in dict.fromkeys(site.block for site in sites.values())] == blocks
    for key, site in sites.items():
        assert site.name == key and key.rsplit(".", 1)[-1] == site.role
        assert all(path.startswith(f"{site.block}.") for path in site.paths)
        if site.tied_to:
            assert sites[site.tied_to].tied_to is None
            assert sites[site.tied_to].absorber == site.absorber


@pytest.mark.parametrize("name", KNOWN)
def test_sites_are_in_the_order_of_a_forward(name):
    transformer, call = tiny(name)
    met = []
    hooks = [
        transformer.get_submodule(site.paths[-1]).register_forward_hook(lambda *_, key=key: met.append(key))
        for key, site in sites_of(name).items()
    ]
    output_of(transformer, call)
    for hook in hooks:
        hook.remove()
    blocks = [sites_of(name)[key].block for key in met]
    assert sorted(set(met)) == sorted(sites_of(name))
    assert list(dict.fromkeys(blocks)) == family_of(transformer).blocks(transformer)


def test_sites_of_sd35_by_hand():
    """Three blocks of width 16; the first two attend twice, the last one only reads its context."""
    first = [
        *("qkv", "context.qkv", "proj", "context.proj", "dual.qkv", "dual.proj"),
        *("fc1", "fc2", "context.fc1", "context.fc2"),
    ]
    last = ["qkv", "context.qkv", "proj", "fc1", "fc2"]
    sites = sites_of("sd3.5")
    assert list(sites) == [f"blocks.{i}.{name}" for i, names in enumerate([first, first, last]) for name in names]
    here = "transformer_blocks.1"
    assert sites["blocks.1.context.qkv"].paths == tuple(f"{here}.attn.add_{name}_proj" for name in "qkv")
    assert sites["blocks.1.dual.qkv"].absorber == Modulation(
        linear=f"{here}.norm1.linear", shift=(96, 112), scale=(112, 128)
    )
    assert sites["blocks.1.fc1"].absorber == Modulation(linear=f"{here}.norm1.linear", shift=(48, 64), scale=(64, 80))
    assert sites["blocks.2.context.qkv"].absorber == Modulation(
        linear="transformer_blocks.2.norm1_context.linear", shift=(16, 32), scale=(0, 16)
    )
    values = Rows(paths=(f"{here}.attn.to_v", f"{here}.attn.add_v_proj"))
    assert sites["blocks.1.proj"].absorber == values
    assert sites["blocks.1.context.proj"].tied_to == "blocks.1.proj"
    assert isinstance(sites["blocks.1.context.fc2"].absorber, InputFactor)


def test_sites_of_flux_by_hand():
    """Two double and two single blocks of width 16, whose MLP is 64 wide."""
    double = ["qkv", "context.qkv", "proj", "context.proj", "fc1", "fc2", "context.fc1", "context.fc2"]
    sites = sites_of("flux")
    assert list(sites) == [
        *(f"blocks.{i}.{name}" for i in range(2) for name in double),
        *(f"single.{i}.{name}" for i in range(2) for name in ["qkv_mlp", "proj_out"]),
    ]
    here = "single_transformer_blocks.1"
    assert sites["single.1.qkv_mlp"].paths == tuple(
        f"{here}.{path}" for path in ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"]
    )
    assert sites["single.1.qkv_mlp"].absorber == Modulation(linear=f"{here}.norm.linear", shift=(0, 16), scale=(16, 32))
    (attention, by_values), (rest, gelu) = sites["single.1.proj_out"].absorber.parts
    assert (attention, by_values) == ((0, 16), Rows(paths=(f"{here}.attn.to_v",)))
    assert rest == (16, 80) and isinstance(gelu, InputFactor)


def test_names_of_dit_stay():
    roles = ("qkv", "proj", "fc1", "fc2")
    assert list(sites_of("dit")) == [f"blocks.{block}.{role}" for block in range(2) for role in roles]


def test_a_factor_of_one_tied_site_is_that_of_all():
    transformer, _ = tiny("sd3")
    factor = random_factors(transformer)["blocks.0.proj"]
    by_image = reparameterize(transformer, {"blocks.0.proj": factor})
    by_context = reparameterize(transformer, {"blocks.0.context.proj": factor})
    both = reparameterize(transformer, {"blocks.0.proj": factor, "blocks.0.context.proj": factor.clone()})
    assert not torch.equal(
        by_image.get_parameter("transformer_blocks.0.attn.to_add_out.weight"),
        transformer.get_parameter("transformer_blocks.0.attn.to_add_out.weight"),
    )
    for other in (by_context, both):
        assert all(torch.equal(a, b) for a, b in zip(by_image.parameters(), other.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"one factor for 'blocks\.0\.proj' and 'blocks\.0\.context\.proj'"):
        reparameterize(transformer, {"blocks.0.proj": factor, "blocks.0.context.proj": 2 * factor})


def test_what_a_split_site_cannot_absorb_is_left_to_the_rounding():
    transformer, call = tiny("flux")
    absorber = sites_of("flux")["single.0.proj_out"].absorber
    factor = torch.linspace(0.5, 2, 80, dtype=torch.float64)
    folds, left = split_factor(absorber, factor)
    assert torch.equal(folds * left, factor)
    assert (left[:16] == 1).all() and (folds[16:] == 1).all() and (folds[:16] != 1).all()
    with pytest.raises(ValueError, match=r"ones for the channels of 'single\.0\.proj_out'"):
        reparameterize(transformer, {"single.0.proj_out": factor})
    folded = reparameterize(transformer, {"single.0.proj_out": folds})
    assert relative_difference(output_of(transformer, call), output_of(folded, call)) < 1e-12


def test_repeated_heads_need_equal_factors():
    """Two heads of 8 channels read each head of values: heads 0 and 1 the first, heads 2 and 3 the second."""
    transformer, _ = tiny("lumina2, grouped")
    absorber = sites_of("lumina2, grouped")["blocks.0.proj"].absorber
    assert (absorber.repeats, absorber.width) == (2, 8)
    factor = torch.ones(32, dtype=torch.float64)
    factor[3] = 2
    with pytest.raises(ValueError, match="equal factors for the 2 heads"):
        reparameterize(transformer, {"blocks.0.proj": factor})
    factor[11] = 2
    folded = reparameterize(transformer, {"blocks.0.proj": factor})
    rows = folded.get_parameter("layers.0.attn.to_v.weight") / transformer.get_parameter("layers.0.attn.to_v.weight")
    assert torch.allclose(rows[3], torch.tensor(2.0, dtype=torch.float64))
    assert torch.allclose(rows[11], torch.tensor(1.0, dtype=torch.float64))


def test_a_subclass_belongs_to_the_family_of_its_base():
    transformer, _ = tiny("flux")
    fork = type("MyFlux", (type(transformer),), {})
    assert family_of(fork.__new__(fork)).name == "flux"
    assert family_of(nn.Linear(2, 2)).name == "generic"
    names = [name for family in FAMILIES for name in family.classes]
    assert len(set(names)) == len(names)


def test_classes_exist_in_diffusers():
    import diffusers

    assert all(hasattr(diffusers, name) for family in FAMILIES for name in family.classes)


def test_a_class_that_is_built_differently_is_refused():
    impostor = type("FluxTransformer2DModel", (nn.Module,), {})()
    with pytest.raises(ValueError, match="Expected a flux transformer as diffusers builds it"):
        family_of(impostor).sites(impostor)
