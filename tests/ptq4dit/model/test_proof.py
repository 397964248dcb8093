"""Folding proven on the model at hand: rounding passes, a forward that is another one does not."""

import copy

import pytest
import torch

from ptq4dit.model.proof import prove
from ptq4dit.paper.reparam import reparameterize
from tests.ptq4dit.model.tiny_models import KNOWN, random_factors, tiny


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["dit", "pixart-sigma", "sd3.5", "flux", "lumina2, grouped", "qwen"])
def test_rounding_is_no_error(name, dtype):
    transformer, call = tiny(name, dtype)
    folded = reparameterize(transformer, random_factors(transformer))
    state = {key: value.clone() for key, value in transformer.state_dict().items()}
    difference = prove(transformer, folded, call)
    assert difference < {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 0.1)
    assert all(torch.equal(value, state[key]) for key, value in transformer.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in transformer.modules())


@pytest.mark.parametrize("name", KNOWN)
def test_holds_in_the_precision_that_models_have(name):
    transformer, call = tiny(name, torch.float32)
    assert prove(transformer, reparameterize(transformer, random_factors(transformer)), call) < 1e-5


def clamped(norm):
    """A fork's modulation: it bounds the scale, which a folded factor then runs into."""
    forward = norm.forward

    def bounded(*args, **kwargs):
        output, *rest = forward(*args, **kwargs)
        return (output.clamp(-1, 1), *rest)

    norm.forward = bounded


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_fork_with_another_forward_is_named_where_it_differs(dtype):
    transformer, call = tiny("sd3", dtype)
    folded = reparameterize(transformer, random_factors(transformer))
    for model in (transformer, folded):
        clamped(model.transformer_blocks[1].norm1)
    with pytest.raises(ValueError, match=r"first layer to differ is 'blocks\.1\.qkv'"):
        prove(transformer, folded, call)


@pytest.mark.parametrize(
    ("path", "site"),
    [
        ("transformer_blocks.1.attn.to_out.0", "blocks.1.proj"),
        ("single_transformer_blocks.0.attn.to_k", "single.0.qkv_mlp"),
        ("single_transformer_blocks.1.proj_out", "single.1.proj_out"),
    ],
)
def test_columns_left_as_they_were_are_found(path, site):
    transformer, call = tiny("flux", torch.float32)
    folded = reparameterize(transformer, random_factors(transformer))
    with torch.no_grad():
        folded.get_submodule(path).weight.copy_(transformer.get_submodule(path).weight)
    with pytest.raises(ValueError, match=f"first layer to differ is '{site}'"):
        prove(transformer, folded, call)


def test_what_happens_behind_the_layers_is_found():
    transformer, call = tiny("flux", torch.float32)
    folded = copy.deepcopy(transformer)
    with torch.no_grad():
        folded.proj_out.weight.mul_(1.5)
    with pytest.raises(ValueError, match="behind the last one"):
        prove(transformer, folded, call)


def test_a_forward_that_is_random_proves_nothing():
    transformer, call = tiny("pixart-sigma", torch.float32)
    transformer.transformer_blocks[0].attn1.to_out[1].p = 0.2
    transformer.train()
    with pytest.raises(ValueError, match="Expected the same output twice"):
        prove(transformer, transformer, call)


def test_an_output_that_is_not_finite_proves_nothing():
    transformer, call = tiny("dit", torch.float32)
    with torch.no_grad():
        transformer.pos_embed.proj.bias[0] = torch.nan
    with pytest.raises(ValueError, match="Expected a finite output"):
        prove(transformer, transformer, call)
