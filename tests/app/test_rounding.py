"""What is stored of rounding is what a search finds, and is used for the model that it was made from only."""

import pytest
import torch

import ptq4dit
from app.services import effect, inspection, loading, models, rounding, sites
from ptq4dit.quantized.operands import layer_operands


@pytest.fixture
def demo(monkeypatch):
    """The demo model, as a visitor explores it."""
    monkeypatch.delenv("PTQ4DIT_MODEL", raising=False)
    loading.forget_all()
    yield
    loading.forget_all()


def searched(name, layer, variant, weight_bits, activation_bits, strength):
    model = models.explored(name, strength)
    config = ptq4dit.QuantConfig(weight_bits=weight_bits, activation_bits=activation_bits)
    return layer_operands(model.dit.transformer, model.stats, layer, config, variant)


def same(one, other):
    return (
        torch.equal(one.rounded_weight, other.rounded_weight)
        and torch.equal(one.rounded_input, other.rounded_input)
        and all(torch.equal(a, b) for a, b in zip(one.weight_grid, other.weight_grid, strict=True))
    )


def test_the_stored_clipping_gives_the_searched_weights(demo):
    clippings = [name for name in rounding._arrays("demo") if not name.startswith("errors/")]
    assert len(clippings) == 5 * 7 * 8 * (3 * 3 + 1)  # dial, bits, blocks, balancing of each role
    for layer, bits, strength in (("blocks.2.fc1", 4, 8), ("blocks.7.fc2", 2, 1), ("blocks.0.qkv", 7, 16)):
        for variant in sites.variants_of("demo", layer):
            assert same(
                effect.rounded("demo", layer, variant, bits, 8, strength),
                searched("demo", layer, variant, bits, 8, strength),
            ), (layer, variant)


def test_the_stored_errors_are_those_of_the_layers(demo):
    stored = rounding.stored_errors("demo", 3, 6, 8)
    assert list(stored) == list(models.explored("demo").stats.layers)
    for layer in ("blocks.1.proj", "blocks.4.fc2"):
        computed = inspection.layer_errors("demo", layer, 3, 6, 8).overall
        assert {way: stored[layer][way] for way in computed} == pytest.approx(computed, rel=1e-4)
    drawn = inspection.map_numbers("demo", "csb", 3, 6, 8)
    assert drawn["blocks.1.proj"] == pytest.approx(100 * stored["blocks.1.proj"]["csb"])
    assert drawn["blocks.4.fc2"] != drawn["blocks.4.fc2"]  # fc2 is not balanced


def test_another_model_is_searched(explored_once):
    assert rounding._arrays("tiny") == {} and rounding.stored_errors("tiny", 4, 8, 1) is None
    layer = models.explored("tiny").stats.layers[0]
    assert same(effect.rounded("tiny", layer, "csb", 4, 8, 2), searched("tiny", layer, "csb", 4, 8, 2))
