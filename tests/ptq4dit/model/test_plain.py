"""Weights that cannot be rewritten alone are refused by name, before anything is changed."""

import pytest
import torch
from torch import nn

from ptq4dit.model.families.registry import family_of
from ptq4dit.paper.reparam import reparameterize
from tests.ptq4dit.model.tiny_models import output_of, random_factors, relative_difference, tiny


class Adapted(nn.Module):
    """As adapters wrap a linear."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.weight = base_layer.weight


class Lora(nn.Module):
    """As people write adapters themselves."""

    def __init__(self, linear):
        super().__init__()
        self.linear, self.down, self.up = linear, nn.Linear(16, 2, bias=False), nn.Linear(2, 16, bias=False)

    def forward(self, x):
        return self.linear(x) + self.up(self.down(x))


def wrap(attention):
    attention.to_q = Lora(attention.to_q)


class Packed(torch.Tensor):
    """As quantizers replace a weight."""


def adapt(attention):
    attention.to_v = Adapted(attention.to_v)


def pack(attention):
    packed = attention.to_q.weight.detach().as_subclass(Packed)
    attention.to_q._parameters["weight"] = packed


def share_memory(attention):
    attention.to_k.weight = nn.Parameter(attention.to_q.weight.detach())


def rename(attention):
    attention.to_q = type("Linear8bit", (nn.Linear,), {"forward": lambda self, x: x})(16, 16)


SPOILS = {
    "computed weight": lambda attention: nn.utils.parametrizations.weight_norm(attention.to_q),
    r"computed weight .*spectral_norm": lambda attention: nn.utils.parametrizations.spectral_norm(attention.to_v),
    "adapter .LoRA. is attached": adapt,
    "a Lora. It wraps a linear, as adapters do: merge it": wrap,
    "weight of type Packed": pack,
    "meta device": lambda attention: attention.to_k.to("meta"),
    r"to_.*.weight' and .*to_.*.weight' in the same memory": share_memory,
    "Linear8bit with a forward of its own": rename,
    "weight of torch.float8_e4m3fn": lambda attention: attention.to_q.to(torch.float8_e4m3fn),
    "Identity. The model is quantized already": lambda attention: setattr(attention, "to_q", nn.Identity()),
    "unfuse_qkv_projections": lambda attention: attention.fuse_projections(),
}


@pytest.mark.parametrize("message", SPOILS)
@torch.no_grad()
def test_refused_by_name(message):
    transformer, _ = tiny("dit")
    factors = random_factors(transformer)
    SPOILS[message](transformer.get_submodule("transformer_blocks.1.attn1"))
    with pytest.raises(ValueError, match=message):
        reparameterize(transformer, factors)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_older_weight_norm_is_refused():
    transformer, _ = tiny("dit")
    factors = random_factors(transformer)
    nn.utils.weight_norm(transformer.transformer_blocks[0].attn1.to_v)
    with pytest.raises(ValueError, match="computed weight"):
        reparameterize(transformer, factors)


def test_a_weight_shared_through_views_is_refused():
    transformer, _ = tiny("dit")
    factors = random_factors(transformer)
    whole = torch.randn(24, 16, dtype=torch.float64)
    attention = transformer.transformer_blocks[0].attn1
    attention.to_q.weight, attention.to_k.weight = nn.Parameter(whole[:16]), nn.Parameter(whole[8:])
    with pytest.raises(ValueError, match="in the same memory"):
        reparameterize(transformer, factors)


def test_neighbours_in_one_buffer_are_not_shared():
    """Weights that are views of one file beside each other, as some loaders make them."""
    transformer, call = tiny("dit")
    attention = transformer.transformer_blocks[0].attn1
    whole = torch.cat([attention.to_q.weight, attention.to_k.weight]).detach()
    attention.to_q.weight, attention.to_k.weight = nn.Parameter(whole[:16]), nn.Parameter(whole[16:])
    folded = reparameterize(transformer, random_factors(transformer))
    assert relative_difference(output_of(transformer, call), output_of(folded, call)) < 1e-12


@pytest.mark.parametrize("name", ["sd3.5", "flux", "sana", "lumina2, grouped", "qwen"])
def test_sites_are_known_without_weights(name):
    """On the meta device, where a checkpoint's layers are replaced before anything is loaded."""
    transformer, _ = tiny(name)
    sites = family_of(transformer).sites(transformer)
    assert family_of(transformer).sites(transformer.to("meta")) == sites


def test_an_adapter_on_a_model_that_no_file_knows_is_refused():
    transformer, _ = tiny("wan")
    adapt(transformer.blocks[0].attn1)
    with pytest.raises(ValueError, match=r"'blocks\.0\.attn1\.to_v', got a Adapted: an adapter"):
        family_of(transformer).sites(transformer)


def test_sites_that_get_no_factor_may_be_anything():
    transformer, _ = tiny("dit")
    factors = {"blocks.0.fc1": random_factors(transformer)["blocks.0.fc1"]}
    rename(transformer.transformer_blocks[1].attn1)
    assert reparameterize(transformer, factors) is not transformer


def test_a_modulation_without_bias_is_refused():
    transformer, _ = tiny("dit")
    factors = random_factors(transformer)
    transformer.transformer_blocks[0].norm1.linear.bias = None
    with pytest.raises(ValueError, match=r"Expected a bias in 'transformer_blocks\.0\.norm1\.linear'"):
        reparameterize(transformer, factors)


def test_an_ip_adapter_of_sd3_is_refused():
    from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0

    transformer, _ = tiny("sd3")
    processor = SD3IPAdapterJointAttnProcessor2_0(16, 12, 2)
    transformer.transformer_blocks[0].attn.set_processor(processor)
    with pytest.raises(ValueError, match="Unload the IP adapter"):
        family_of(transformer).sites(transformer)


def test_a_compiled_wrapper_is_refused():
    transformer, _ = tiny("dit")
    with pytest.raises(ValueError, match="_orig_mod"):
        family_of(torch.compile(transformer))


def test_hooks_of_accelerate_and_checkpointing_stay_with_the_copy():
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    transformer, call = tiny("sd3")
    before = output_of(transformer, call)
    add_hook_to_module(transformer.transformer_blocks[0].attn.to_v, AlignDevicesHook(execution_device="cpu"))
    transformer.enable_gradient_checkpointing()
    folded = reparameterize(transformer, random_factors(transformer))
    assert relative_difference(before, output_of(folded, call)) < 1e-12
    with torch.no_grad():
        folded.transformer_blocks[0].attn.to_v.weight.zero_()
    assert relative_difference(before, output_of(folded, call)) > 1e-3  # its own weights run, not the original's
    assert torch.equal(before, output_of(transformer, call))
