"""Lessons seven to nine: numbers against numpy, words by sign, and what cannot be shown is said in place."""

import dataclasses
import json

import numpy as np
import pytest

from app.content import alternative_readings as say
from app.services import alternatives as other
from app.services import models
from app.services.inspection import layer_errors
from app.state import Selection
from app.tabs import learn_alternatives as lessons

LAYER, BITS = "blocks.1.fc1", (4, 8)
WHERE = ("tiny", LAYER, 1, *BITS)


def selected(**changes):
    return vars(Selection(**{"model": "tiny", "layer": LAYER, "strength": 1} | changes)).values()


def rows_of(name):
    """The kept rows (row, channel) and the weight (out, channel) of a layer, in 64 bits."""
    rows = np.asarray(models.explored("tiny").stats.samples[name].float()).astype(float)
    linears = other.sites("tiny")[name].linears
    return rows.reshape(-1, rows.shape[-1]), np.concatenate([np.asarray(o.weight.detach()) for o in linears])


def rounded(values, bits, axis):
    """Values on grids of their own along an axis, zero among the levels."""
    low, high = np.minimum(values.min(axis, keepdims=True), 0), np.maximum(values.max(axis, keepdims=True), 0)
    step = (high - low) / (2**bits - 1)
    zero = np.clip(np.rint(-low / step), 0, 2**bits - 1)
    return (np.clip(np.rint(values / step) + zero, 0, 2**bits - 1) - zero) * step


@pytest.mark.usefixtures("explored_once")
def test_ranges_are_numpys():
    rows, _ = rows_of(LAYER)
    found = other.scales(*WHERE)
    spans = np.maximum(rows.max(1), 0) - np.minimum(rows.min(1), 0)
    np.testing.assert_allclose(found.tokens, np.sort(spans), rtol=1e-6)
    order, parts = np.argsort(spans, kind="stable"), rows.reshape(len(rows), -1, found.size)
    groups = np.maximum(parts.max(2), 0) - np.minimum(parts.min(2), 0)
    np.testing.assert_allclose(found.groups, groups[order], rtol=1e-6)
    assert found.whole >= found.tokens.max() - 1e-6 and found.groups.max() <= found.whole + 1e-6


@pytest.mark.usefixtures("explored_once")
def test_a_scale_for_every_token_loses_what_numpy_says():
    """With the weight in float the token's grid is all there is."""
    rows, weight = rows_of(LAYER)
    found = other.scales("tiny", LAYER, 1, 16, 8)
    exact = rows @ weight.T
    for way, grids in (("token", rows), ("both", rows.reshape(len(rows), -1, found.size))):
        lost = rounded(grids, 8, -1).reshape(rows.shape) @ weight.T - exact
        assert found.errors[way] == pytest.approx(np.square(lost).sum() / np.square(exact).sum(), rel=0.02)


@pytest.mark.usefixtures("explored_once")
@pytest.mark.parametrize("name", [LAYER, "blocks.0.qkv", "blocks.0.proj", "blocks.0.fc2"])
def test_plain_and_balanced_are_what_inspect_says(name):
    found = other.rotation("tiny", name, 1, *BITS).errors
    known = layer_errors("tiny", name, *BITS, 1).overall
    assert found["none"] == pytest.approx(known["none"], rel=1e-3)
    assert ("csb+ssc" in found) == ("csb+ssc" in known)
    if "csb+ssc" in known:
        assert found["csb+ssc"] == pytest.approx(known["csb+ssc"], rel=0.02)  # rows are kept in half precision


@pytest.mark.usefixtures("explored_once")
def test_the_rotation_is_a_hadamard_matrix_with_signs():
    import scipy.linalg
    import torch

    rows, _ = rows_of(LAYER)
    width = rows.shape[1]
    signs = torch.randint(2, (width,), generator=torch.Generator().manual_seed(0)).double().numpy() * 2 - 1
    turned = rows * signs @ scipy.linalg.hadamard(width) / width**0.5
    found = other.rotation(*WHERE)
    np.testing.assert_allclose(found.before, np.abs(rows).max(0), rtol=1e-6)
    np.testing.assert_allclose(np.sort(found.after), np.sort(np.abs(turned).max(0)), rtol=1e-4)
    assert found.mixed == width and found.share == pytest.approx((4 + 4) / 64)


@pytest.mark.usefixtures("explored_once")
def test_the_branch_counts_what_it_multiplies_and_keeps_the_largest_part():
    _, weight = rows_of("blocks.0.fc2")  # nothing smooths it
    found = other.low_rank("tiny", "blocks.0.fc2", 1, *BITS)
    np.testing.assert_allclose(found.singular, np.linalg.svd(weight, compute_uv=False), rtol=1e-4)
    assert not found.smoothed and found.balanced is None
    assert list(found.errors) == [0, 4, 8] and found.nearest(64) == 8
    assert found.shares[8] == pytest.approx(8 * (16 + 64) / (16 * 64))
    assert found.errors[0] == pytest.approx(found.plain) and found.errors[8] < found.errors[0]
    assert other.low_rank(*WHERE).smoothed


@pytest.mark.usefixtures("explored_once")
@pytest.mark.parametrize(
    ("draw", "way"),
    [(lessons.draw_scales, way) for way in other.SCALES]
    + [(lessons.draw_rotation, way) for way in ("none", "rotated", "csb+ssc")]
    + [(lessons.draw_branch, rank) for rank in other.RANKS],
)
def test_each_choice_is_drawn_and_told(draw, way):
    plot, formula, reading = draw(way, *selected())
    assert json.loads(plot.plot)["data"] and formula.startswith("$$") and formula.count("{") == formula.count("}")
    assert f"At W4A8 the output of {LAYER} is off by **" in reading and "(simulated)" in reading
    assert "at run time" in reading


@pytest.mark.usefixtures("explored_once")
def test_where_nothing_is_rounded_or_balanced_it_is_said():
    for draw, way in ((lessons.draw_scales, "token"), (lessons.draw_rotation, "rotated"), (lessons.draw_branch, 4)):
        assert draw(way, *selected(weight_bits=16, activation_bits=16))[2] == say.NOTHING_ROUNDED
    assert say.NOT_BALANCED in lessons.draw_rotation("csb+ssc", *selected(layer="blocks.0.fc2"))[2]
    assert "too narrow for 64" in lessons.draw_branch(64, *selected())[2]
    assert lessons.draw_scales("both", *selected(activation_bits=16))[1] == ""


@pytest.mark.usefixtures("explored_once")
def test_without_kept_rows_the_lesson_says_so(monkeypatch):
    import gradio as gr

    bare = dataclasses.replace(models.explored("tiny").stats, samples={})
    other.scales.cache_clear()
    monkeypatch.setattr(other, "explored", lambda name, strength: SimpleExplored(bare))
    with pytest.raises(gr.Error, match=r"kept no rows of blocks\.1\.fc1's input.*Calibrate again"):
        lessons.draw_scales("token", *selected())


@dataclasses.dataclass
class SimpleExplored:
    stats: object


@pytest.mark.parametrize(
    ("error", "plain", "said"),
    [
        (0.01, 0.04, "4 times less than without"),
        (0.04, 0.01, "4 times more than without"),
        (0.001, 0.5, "500 times less than without"),
        (0.0102, 0.01, "about the same as without"),
        (0.0, 0.01, "nothing left"),
        (0.0, 0.0, "nothing to take away"),
    ],
)
def test_the_effect_is_told_by_its_sign(error, plain, said):
    assert say.effect(error, plain) == said


def test_balancing_is_compared_by_sign_too():
    assert "leave **1%**, less, and" in say.against_balancing(0.02, 0.01)
    assert "leave **2%**, more, and" in say.against_balancing(0.01, 0.02)
    assert "about the same" in say.against_balancing(0.01, 0.0101)
    assert say.against_balancing(0.01, None) == say.NOT_BALANCED


@pytest.mark.parametrize(("before", "after", "said"), [(9, 3, "shrinks"), (3, 3.1, "same"), (3, 9, "grows")])
def test_the_peak_shrinks_stays_or_grows(before, after, said):
    assert say.peak(before, after) == said


def test_the_cost_is_counted():
    # 192 channels in groups of 64, 768 outputs: three scales a row
    assert "2,304 weight scales instead of 768" in say.scales_cost("weights", 192, 768, 64)
    assert "summed in 3 pieces" in say.scales_cost("weights", 192, 768, 64)
    assert "192 values for every token" in say.scales_cost("token", 192, 768, 64)
    assert "nothing" in say.scales_cost("none", 192, 768, 64)


def test_a_wide_layer_is_measured_in_part_and_says_so():
    assert say.measured(1) == "" and say.measured(4) == " Measured on one output channel in 4."
    assert other.group_size(192) == 64 and other.group_size(48) == 16 and other.group_size(7) is None
