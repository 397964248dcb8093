"""What can be asked of a comparison, and what is said to everything else."""

import pytest

from app.services.request import FULL_PRECISION, MOST_VARIANTS, Request, Variant, parse_variants


@pytest.mark.parametrize(
    ("text", "weight", "activation", "name"),
    [
        ("W4A8", 4, 8, "W4A8, simulated, CSB"),
        ("w8a8", 8, 8, "W8A8, simulated, CSB"),
        ("W4A16", 4, 16, "W4A16, simulated, CSB"),
        ("W4A8 none", 4, 8, "W4A8, simulated, no balancing"),
        ("W4A8 csb+ssc", 4, 8, "W4A8, simulated, CSB+SSC"),
        ("W4A8 token", 4, 8, "W4A8, simulated, CSB, a scale for every token"),
        ("w4a8 CSB+SSC Token", 4, 8, "W4A8, simulated, CSB+SSC, a scale for every token"),
        ("W4A16 token", 4, 16, "W4A16, simulated, CSB"),
    ],
)
def test_bits_are_parsed(text, weight, activation, name):
    variant = Variant.parse(text, csb=True, ssc=False)
    assert (variant.weight_bits, variant.activation_bits, variant.name) == (weight, activation, name)


@pytest.mark.parametrize("text", ["", "W4", "4/8", "W4A8 ssc", "int4", "W4A8 token csb", "W4A8 tokens"])
def test_other_bits_are_refused(text):
    with pytest.raises(ValueError, match=r"expected W<bits>A<bits>.*e\.g\. W4A8.*got"):
        Variant.parse(text, csb=True, ssc=True)


def test_each_variant_once():
    assert len(parse_variants(["W4A8", "W8A8", "w4a8", "W4A8 csb+ssc"], csb=True, ssc=True)) == 2


def test_the_third_switch_counts_where_a_variant_does_not_say(monkeypatch):
    monkeypatch.setattr("app.services.request.find_spec", lambda name: object())
    told = parse_variants(["W3A8", "W3A8 none tensor"], csb=True, ssc=True, backend="auto", tokens=True)
    assert [(one.tokens, one.backend) for one in told] == [(True, "integer"), (False, "simulated")]
    assert Request(model="tiny", variants=told).contenders[1].tokens


@pytest.mark.parametrize("bits", [[], ["W16A16"]])
def test_nothing_to_compare_is_refused(bits):
    with pytest.raises(ValueError, match="bits: expected"):
        parse_variants(bits, csb=True, ssc=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps: expected a whole number from 1 to 250; got 0"),
        ({"seed": -1}, "seed: expected a whole number from 0 to"),
        ({"class_id": -3}, "class_id: expected"),
        ({"guidance": 0.5}, r"guidance: expected a number from 1\.0 to 20\.0; got 0\.5"),
        ({"strength": 3}, "strength: expected one of 1, 2, 4, 8, 16; got 3"),
        ({"sampler": "euler"}, r"sampler: expected one of ddim, ddpm, dpm\+\+; got 'euler'"),
        ({"variants": (Variant(weight_bits=1, activation_bits=8),)}, "weight_bits: expected one of"),
        ({"variants": (Variant(weight_bits=4, activation_bits=8, ssc=True),)}, "ssc: needs csb"),
        ({"variants": (FULL_PRECISION,) * (MOST_VARIANTS + 1)}, "variants: expected at most 7; got 8"),
        ({"seed": "x"}, "seed: expected a whole number from 0 to 2147483647; got 'x'"),
    ],
)
def test_what_cannot_be_made_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Request(model="tiny", **wrong)


def test_full_precision_comes_first():
    variant = Variant(weight_bits=4, activation_bits=8)
    assert Request(model="tiny", variants=(variant,)).contenders == (FULL_PRECISION, variant)
