import pytest
import torch

from ptq4dit.model.layers import balanced_layers
from ptq4dit.paper.reparam import reparameterize


def random_factors(transformer, spread=2.0, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (spread * torch.randn(layer.in_features, generator=generator, dtype=torch.float64)).exp()
        for name, layer in balanced_layers(transformer).items()
        if layer.role != "fc2"
    }


def forward(transformer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    config = transformer.config
    x = torch.randn(3, 4, config.sample_size, config.sample_size, generator=generator, dtype=transformer.dtype)
    with torch.no_grad():
        return transformer(x, timestep=torch.tensor([999, 500, 0]), class_labels=torch.tensor([0, 4, 5])).sample


@pytest.mark.parametrize("roles", [("qkv",), ("proj",), ("fc1",), ("qkv", "proj", "fc1")])
@pytest.mark.parametrize(
    "config", [{}, {"attention_bias": False, "out_channels": 8}, {"norm_elementwise_affine": True}]
)
def test_output_is_unchanged(make_dit, roles, config):
    transformer = make_dit(dtype=torch.float64, **config).transformer
    factors = {name: b for name, b in random_factors(transformer).items() if name.split(".")[-1] in roles}
    expected, actual = forward(transformer), forward(reparameterize(transformer, factors))
    assert expected.std() > 0.1
    assert (actual - expected).abs().max() < 1e-10


def test_result_is_a_plain_diffusers_model(make_dit):
    from diffusers import DiTTransformer2DModel

    transformer = make_dit(dtype=torch.float64).transformer
    folded = reparameterize(transformer, random_factors(transformer))
    fresh = DiTTransformer2DModel(**dict(transformer.config)).double().eval()
    fresh.load_state_dict(folded.state_dict(), strict=True)
    assert type(folded) is DiTTransformer2DModel
    assert torch.equal(forward(fresh), forward(folded))


def test_layer_inputs_are_scaled_by_the_factor(make_dit):
    transformer = make_dit(dtype=torch.float64).transformer
    factors = random_factors(transformer)
    folded = reparameterize(transformer, factors)
    for name, factor in factors.items():
        before, after = layer_input(transformer, name), layer_input(folded, name)
        torch.testing.assert_close(after, before * factor, rtol=1e-9, atol=1e-12)


def layer_input(transformer, name):
    seen = []
    hook = balanced_layers(transformer)[name].linears[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    forward(transformer)
    hook.remove()
    return seen[0]


def test_inputs_are_left_alone(make_dit):
    transformer = make_dit().transformer
    factors = random_factors(transformer)
    state = {key: value.clone() for key, value in transformer.state_dict().items()}
    copies = {name: factor.clone() for name, factor in factors.items()}
    reparameterize(transformer, factors)
    assert all(torch.equal(value, state[key]) for key, value in transformer.state_dict().items())
    assert all(torch.equal(factors[name], copies[name]) for name in factors)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"blocks.0.fc2": torch.ones(64)}, "GELU"),
        ({"blocks.9.qkv": torch.ones(16)}, "Unknown layer"),
        ({"blocks.0.qkv": torch.ones(15)}, r"shape \(16,\)"),
        ({"blocks.0.qkv": torch.zeros(16)}, "positive"),
        ({"blocks.0.qkv": torch.full((16,), torch.nan)}, "finite"),
    ],
)
def test_refuses_impossible_factors(dit, factors, message):
    with pytest.raises(ValueError, match=message):
        reparameterize(dit.transformer, factors)
