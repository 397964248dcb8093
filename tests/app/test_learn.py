"""Learn: the arithmetic is the engine's, the charts hold what the words say, the answers follow from the numbers."""

import json
import re

import numpy as np
import pytest

from app.content import learn_readings as say
from app.content import words
from app.content.grades import grade
from app.content.lessons import LESSONS, lesson
from app.figures.learn.balance import balance_figure
from app.figures.learn.outlier import outlier_figure
from app.figures.learn.rounding import rounding_figure
from app.figures.learn.salience import salience_figure
from app.figures.learn.timesteps import timestep_figure
from app.services import learning
from app.services.stored import Choice, load_results
from app.state import Selection
from app.tabs import learn_alternatives as alternatives
from app.tabs import learn_answers as answers
from app.tabs import learn_handlers as handlers

LAYER = "blocks.1.fc1"


@pytest.fixture
def model(explored_model):
    return explored_model


def traces(place):
    """The traces of a drawn figure by name."""
    return {trace.get("name"): trace for trace in json.loads(place.plot)["data"]}


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("values", [learning.VALUES, learning.VALUES + 3, -np.abs(learning.VALUES)])
def test_rounding_is_the_engines(bits, values):
    import torch

    from ptq4dit.numerics.affine import AffineSpec, affine_from_range, dequantize, quantize

    spec = AffineSpec(bits=bits)
    x = torch.tensor(values)
    scale, zero_point = affine_from_range(x.min(), x.max(), spec)
    line = learning.round_to_grid(values, bits)
    q = quantize(x, scale, zero_point, spec)
    assert line.scale == pytest.approx(float(scale)) and line.zero_point == int(zero_point)
    assert line.integers.tolist() == q.tolist()
    np.testing.assert_allclose(line.rounded, dequantize(q, scale, zero_point), atol=1e-12)


def test_a_case_worked_by_hand():
    # range -1.17 .. 2.1 in 15 steps of 0.218; zero is round(1.17 / 0.218) = 5; 0.94 / 0.218 = 4.3 -> 4 + 5 = 9
    _, formula, reading = handlers.draw_rounding(4)
    for number in ("0.218", r"\mathbf{5}", r"\mathbf{9}", "0.872"):
        assert number in formula
    assert "**16** levels, **0.218** apart: 0.94 becomes **0.872**" in reading


def test_the_number_line_holds_every_level_and_value():
    for bits in (2, 4, 8):
        line = learning.round_to_grid(learning.VALUES, bits)
        arrays = line.values, line.rounded, line.levels
        named = {t.name: t for t in rounding_figure(*arrays, line.zero_point, learning.FOLLOWED).data}
        assert len(named["grid"].x) == 2**bits and 0 in named["grid"].x
        assert list(named["rounded"].x) == list(line.rounded)
        assert list(named["followed"].x) == [line.values[learning.FOLLOWED], line.rounded[learning.FOLLOWED]]


def test_an_outlier_costs_the_ordinary_values_levels_and_precision():
    lines = [learning.with_outlier(size) for size in (1, 3, 10, 30)]
    assert [learning.ordinary_levels(line) for line in lines] == sorted(map(learning.ordinary_levels, lines))[::-1]
    errors = [learning.ordinary_error(line) for line in lines]
    assert errors == sorted(errors) and errors[0] < 0.1 and errors[-1] == pytest.approx(1.0)
    for line in lines:
        assert line.rounded[-1] == pytest.approx(line.values[-1], abs=line.scale)


def test_the_second_answer_is_what_the_arithmetic_gives():
    asked = lesson("outlier")
    assert asked.answers[asked.right] == str(learning.ordinary_levels(learning.with_outlier(10)))


@pytest.mark.parametrize("size", [1, 1.5, 6, 30])
def test_the_outlier_chart_marks_where_the_reader_is(size):
    line, (sizes, errors) = learning.with_outlier(size), learning.outlier_curve()
    at = int(np.flatnonzero(sizes == size)[0])
    figure = outlier_figure(line.values, line.rounded, line.levels, sizes, errors, at)
    assert figure.data[-1].x == (size,)
    assert figure.data[-1].y[0] == pytest.approx(100 * learning.ordinary_error(line))
    assert all(abs(shape.x0) <= 1.25 for shape in figure.layout.shapes) and figure.layout.shapes


def test_a_smaller_scale_cuts_off_the_ends_and_a_moved_zero_point_the_others():
    # half of 0.218 is 0.109; z = round(1.17 / 0.109) = 11: levels -1.199 to 0.436, five values beyond
    half = learning.round_to_grid(learning.VALUES, 4, stretch=0.5)
    assert half.scale == pytest.approx(0.109) and half.zero_point == 11
    assert half.levels[-1] == pytest.approx(0.436) and half.rounded[-1] == pytest.approx(0.436)
    assert learning.clipped(half) == sum(value > 0.436 + 0.0545 for value in learning.VALUES) == 5
    assert learning.clipped(learning.round_to_grid(learning.VALUES, 4)) == 0
    moved = learning.round_to_grid(learning.VALUES, 4, shift=-5)
    assert moved.zero_point == 0 and moved.rounded.min() == 0 and learning.clipped(moved) == 5
    assert learning.round_to_grid(learning.VALUES, 2, shift=8).zero_point == 3
    _, formula, reading = handlers.draw_rounding(4, 0.5, -1)
    assert r"\cdot 0.5 = \mathbf{0.109}" in formula and r"-1 = \mathbf{10}" in formula
    assert "lie beyond the grid and go to its end" in reading


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="stretch: expected a multiple above 0, at most 2; got 0"):
        learning.round_to_grid(learning.VALUES, 4, stretch=0)
    with pytest.raises(ValueError, match="bits: expected 2 to 8; got 9"):
        learning.round_to_grid(learning.VALUES, 9)
    with pytest.raises(ValueError, match="size: expected 1 to 30"):
        learning.with_outlier(31)


def test_top_channels_that_coincide():
    activation, weight = np.arange(40.0), np.arange(40.0)[::-1].copy()
    assert learning.coinciding(activation, weight) == []
    weight[[35, 39]] = 100
    assert learning.coinciding(activation, weight) == [35, 39]
    figure = salience_figure(activation, weight, {39}, {35, 39}, [35, 39])
    named = {trace.name: trace for trace in figure.data if trace.yaxis in (None, "y")}
    assert [list(trace.x) for trace in figure.data if trace.type == "bar"] == [[39], [35, 39]]
    assert list(named["on both sides"].x) == [35, 39]
    assert figure.data[0].y[39] == pytest.approx(39 / np.median(activation))


def test_salience_words_and_bars_agree(model):
    plot, formula, reading = handlers.draw_salience("tiny", LAYER, 1)
    view = learning.layer("tiny", LAYER, 1)
    activation = view.activation[learning.middle(view)]
    both = len(learning.coinciding(activation, view.weight))
    assert f"**{both}** {'is' if both == 1 else 'are'} also among" in reading
    assert f"s(X_{{{activation.argmax()}}})" in formula
    assert {"activation", "weight"} <= set(traces(plot))


@pytest.mark.parametrize("name", ["blocks.0.qkv", "blocks.0.proj", LAYER, "blocks.1.fc2"])
def test_balancing_meets_in_the_middle_and_keeps_the_product(model, name):
    start, half, end = (learning.balance("tiny", name, 1, amount) for amount in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(end.activation, end.middle, rtol=1e-5)
    np.testing.assert_allclose(end.weight, end.middle, rtol=1e-5)
    np.testing.assert_allclose(half.activation * half.weight, start.activation * start.weight, rtol=1e-5)
    np.testing.assert_allclose(half.activation**2, start.activation * end.activation, rtol=1e-5)
    assert start.difference == 0 < end.difference < 1e-5
    assert max(end.activation.max(), end.weight.max()) <= max(start.activation.max(), start.weight.max())  # eq. 8


@pytest.mark.parametrize("name", ["blocks.0.qkv", LAYER])
def test_the_factors_are_the_engines(model, name):
    from app.services.inspection import layer_view

    factors = layer_view("tiny", name, True, False, 1).factors
    np.testing.assert_allclose(learning.balance("tiny", name, 1, 1.0).factors, factors, rtol=1e-5)


def test_balance_chart_and_words(model):
    plot, formula, reading = handlers.draw_balance("tiny", LAYER, 1, 100)
    named = traces(plot)
    assert set(named) >= {"activation", "weight", "middle"}
    np.testing.assert_allclose(_floats(named["activation"]["y"]), _floats(named["middle"]["y"]), rtol=1e-5)
    assert reading.startswith("**Balanced**") and r"\cdot 10^{-" in reading and r"\tilde s" in formula
    assert "Move on" in handlers.draw_balance("tiny", LAYER, 1, 0)[2]
    assert "50% of the way" in handlers.draw_balance("tiny", LAYER, 1, 50)[2]
    assert "GELU" in handlers.draw_balance("tiny", "blocks.0.fc2", 1, 100)[2]


def _floats(values):
    """A trace's values, which Plotly may have packed."""
    if isinstance(values, dict):
        import base64

        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
    return np.asarray(values, float)


def test_balance_axis_stays_while_the_dots_move():
    activation, weight = np.array([10.0, 2.0]), np.array([0.1, 0.5])
    middle = np.sqrt(activation * weight)
    first = balance_figure(activation, weight, middle, (0.1, 10.0))
    last = balance_figure(middle, middle, middle, (0.1, 10.0))
    assert first.layout.yaxis.range == last.layout.yaxis.range


def test_the_timestep_chart_marks_the_nearest_timestep(model):
    view = learning.layer("tiny", LAYER, 1)
    for timestep in (0, 400, 999):
        at = view.nearest(timestep)
        plot, formula, reading = handlers.draw_timesteps("tiny", LAYER, 1, timestep)
        now = view.timesteps[at]
        assert f"timestep **{now}**" in reading and rf"\eta_{{{now}}}" in formula
        (mark,) = json.loads(plot.plot)["layout"]["shapes"]
        assert mark["x0"] == now
        assert f"\\mathbf{{{view.weights[at]:.4f}}}" in formula


def test_the_formula_of_eta_is_true(model):
    view = learning.layer("tiny", LAYER, 1)
    np.testing.assert_allclose(np.exp(-view.rho) / np.exp(-view.rho).sum(), view.weights, rtol=1e-4)
    np.testing.assert_allclose(learning.calibrated(view), (view.weights[:, None] * view.activation).sum(0), rtol=1e-5)


def test_timestep_figure_shows_the_arrays():
    figure = timestep_figure(
        salience=np.array([1.0, 2.0]),
        average=np.array([1.5, 1.5]),
        highest=2.0,
        timesteps=np.array([900, 100]),
        rho=np.array([0.5, -0.5]),
        weights=np.array([0.3, 0.7]),
        at=1,
    )
    assert list(figure.data[0].y) == [1, 2] and list(figure.data[1].y) == [1.5, 1.5]
    assert figure.data[3].x == (100,) and figure.data[3].y == (-0.5,)
    assert figure.data[4].marker.color[0] != figure.data[4].marker.color[1]


def test_a_small_effect_of_ssc_is_called_small(model):
    """Where the effect is looked for, layers that nothing balances do not count: fc2."""
    name, most = learning.liveliest("tiny", 1)
    spreads = {one: learning.spread(learning.layer("tiny", one, 1).weights) for one in view_layers()}
    spreads = {one: value for one, value in spreads.items() if not one.endswith("fc2")}
    assert most == pytest.approx(max(spreads.values()), rel=1e-4) and spreads[name] == pytest.approx(most, rel=1e-4)
    assert f"{spreads[LAYER]:.2f}-fold" in handlers.draw_timesteps("tiny", LAYER, 1, 400)[2]
    assert "the effect is small here" in say.timestep_effect(
        1.04, "a", 1.35, "b"
    ) and "#layer=b" in say.timestep_effect(1.04, "a", 1.35, "b")
    assert "small" not in say.timestep_effect(1.35, "a", 1.35, "a")
    assert "no layer moves more" in say.timestep_effect(1.04, "a", 1.04, "a")


def view_layers():
    from app.services.models import layers

    return layers("tiny")


def test_why_is_told_by_what_was_measured(model):
    usual, best = ("torch fp32, eager", 11.4), ("OpenVINO bf16", 2.5)
    assert "faster than the fastest float" in say.why_reading("demo", usual, best, ("ours", 2.0))
    assert "slower than the fastest float" in say.why_reading("demo", usual, best, ("ours", 3.0))
    assert "as fast as the fastest float" in say.why_reading("demo", usual, best, ("ours", 2.51))
    assert handlers.draw_why(*vars(Selection(model="tiny")).values()) == ""
    assert "**Measured on demo**" in handlers.draw_why(*vars(Selection()).values())


def test_misfit_names_the_channel_that_a_common_factor_serves_worst(model):
    view = learning.layer("tiny", LAYER, 1)
    channel, off = learning.misfit(view, 0)
    ratio = np.sqrt(learning.calibrated(view)[channel] / view.activation[0][channel])
    assert off == pytest.approx(max(ratio, 1 / ratio), rel=1e-4)


def test_the_lessons_follow_the_selection(model):
    values = vars(Selection(model="tiny", layer=LAYER, strength=1, timestep=300, channel=3)).values()
    assert LAYER in handlers.follow_salience(*values)[2] and "s(X_{3})" in handlers.follow_salience(*values)[1]
    assert "s(X_{3})" in handlers.follow_balance(0, *values)[1]
    assert handlers.follow_timesteps(*values)[2] == handlers.draw_timesteps("tiny", LAYER, 1, 300)[2]


@pytest.mark.parametrize(("csb", "ssc", "variant"), [(0, 0, "none"), (1, 0, "csb"), (1, 1, "csb+ssc")])
def test_the_pictures_are_the_stored_ones_of_the_selection(csb, ssc, variant):
    values = vars(Selection(csb=bool(csb), ssc=bool(ssc), class_id=4, seed=0, strength=1)).values()
    switch, wipe, formula, reading, decibels = handlers.follow_pictures(*values)
    stored = load_results("demo")
    psnr = stored.picture(0, Choice(csb=bool(csb), ssc=bool(ssc))).psnr
    assert switch == variant
    assert f"**{grade(psnr).word}, {psnr:.1f} dB** (simulated" in reading and f"{psnr:.1f}" in formula
    assert decibels["grade"] == grade(psnr).key and len(decibels["ladder"]) == 5
    assert wipe["left"]["src"] != wipe["right"]["src"] and "torus" in wipe["right"]["alt"]


def test_the_sixth_answer_is_what_was_measured():
    stored = load_results("demo")
    plain, balanced = (stored.mean(Choice(csb=on, ssc=on)) for on in (False, True))
    said = answers.reveal_pictures(0, *vars(Selection(strength=1)).values())
    assert f"{plain.psnr:.1f} dB without" in said and f"{balanced.psnr:.1f} dB with CSB" in said
    assert said.startswith(answers.RIGHT) == (balanced.psnr > plain.psnr + answers.NOTICEABLE)


def test_an_unknown_layer_gets_a_clear_message(model):
    import gradio as gr

    with pytest.raises(gr.Error, match=r"layer: expected one of blocks\.0\.qkv"):
        handlers.draw_salience("tiny", "blocks.99.fc1", 1)


@pytest.mark.parametrize("key", [one.key for one in LESSONS])
def test_every_question_can_be_answered_right_and_wrong(model, key):
    tiny = vars(Selection(model="tiny", layer=LAYER, strength=1)).values()
    arguments = {"rounding": (4,), "outlier": (), "salience": ("tiny", 1), "pictures": vars(Selection()).values()}
    arguments |= dict.fromkeys(("scales", "rotation", "branch"), tiny)
    reveal = getattr(answers, f"reveal_{key}", None) or getattr(alternatives, f"reveal_{key}")
    given = arguments.get(key, ("tiny", LAYER, 1))
    said = [reveal(i, *given) for i in range(len(lesson(key).answers))]
    assert sum(text.startswith(answers.RIGHT) for text in said) == 1
    assert sum(text.startswith(answers.WRONG) for text in said) == len(said) - 1
    why = next(text.removeprefix(answers.RIGHT) for text in said if text.startswith(answers.RIGHT))
    assert all(text.endswith(why) for text in said)  # the reason is the same
    arguments = given
    assert reveal(None, *arguments).startswith("Predict first")


def test_the_third_answer_counts_all_layers(model):
    counts = learning.coinciding_by_layer("tiny", 1)
    few = sum(count < 3 for count in counts.values())
    assert f"**{few} of {len(counts)}** layers" in answers.reveal_salience(0, "tiny", 1)


def test_every_lesson_has_its_words_and_formulas_close():
    for name in [one.key for one in LESSONS] + ["intro", "closing", "further", "glossary"]:
        assert words(f"learn/{name}").count("$") % 2 == 0
    for formula in (handlers.draw_rounding(4)[1], handlers.draw_outlier(6)[1], say.salience_formula(1, 2.0, 3.0)):
        assert formula.startswith("$$") and formula.endswith("$$") and formula.count("{") == formula.count("}")
    assert len({one.anchor for one in LESSONS}) == len(LESSONS)


@pytest.mark.parametrize(
    "word",
    ["salience", "scale", "zero point", "per tensor", "per channel", "timestep", "rho", "eta", "W4A8", "token", "PSNR"],
)
def test_the_glossary_explains_the_words(word):
    assert re.search(rf"\|[^|]*\b{word}\b", words("learn/glossary"))


def test_small_numbers_are_written_as_powers():
    assert say._power(2.3e-7) == r"$2 \cdot 10^{-7}$" and say._power(0) == "0"
