"""/channel: one channel's numbers against the calibration recomputed here; bad input in words; a link that opens it."""

import json
from dataclasses import replace
from urllib.parse import parse_qsl

import gradio as gr
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import spearmanr

from app.services import models
from app.state import Selection
from app.tabs.channel_api import channel

pytestmark = pytest.mark.usefixtures("explored_once")
LAYER = "blocks.1.fc1"


@pytest.fixture
def calibration():
    """Salience of activation (t, channel) and weight (channel,), and the timesteps, as calibrated."""
    stats = models.explored("tiny").stats
    activation, weight = stats.activation_salience[LAYER], stats.weight_salience[LAYER]
    return np.asarray(activation, float), np.asarray(weight, float), np.asarray(stats.timesteps)


@pytest.mark.parametrize("j", [0, 7, 15])
def test_it_is_the_calibrations_channel_balanced(calibration, j):
    activation, weight, timesteps = calibration
    answer = channel(LAYER, j, timestep=400)
    json.dumps(answer, allow_nan=False)
    at = int(np.abs(timesteps - 400).argmin())
    rho = np.array([spearmanr(row, weight).statistic for row in activation])
    eta = softmax(-rho)
    calibrated = eta @ activation
    factor = np.sqrt(calibrated * weight) / calibrated
    expected = {
        "timestep": timesteps[at],
        "activation": activation[at, j],
        "weight": weight[j],
        "activation_rank": 1 + (activation[at] > activation[at, j]).sum(),
        "weight_rank": 1 + (weight > weight[j]).sum(),
        "factor": factor[j],
        "balanced_activation": activation[at, j] * factor[j],
        "balanced_weight": weight[j] / factor[j],
        "rho": rho[at],
        "rho_balanced": spearmanr(activation[at] * factor, weight / factor).statistic,
        "eta": eta[at],
    }
    assert {name: answer[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_its_grids_are_those_that_rounding_uses():
    import ptq4dit
    from ptq4dit.quantized.operands import layer_operands

    answer, explored = channel(LAYER, 3, bits="W4A8", csb=False, ssc=False), models.explored("tiny")
    config = ptq4dit.QuantConfig(weight_bits=4, activation_bits=8)
    operands = layer_operands(explored.dit.transformer, explored.stats, LAYER, config, "none")
    assert answer["input_step"] == pytest.approx(operands.input_grid[0], rel=1e-5)
    assert answer["weight_step"] == pytest.approx(float(np.median(operands.weight_grid[0])), rel=1e-5)
    exact = np.einsum("tri,oi->tro", operands.input, operands.weight)
    rounded = np.einsum("tr,o->tro", operands.rounded_input[..., 3], operands.rounded_weight[:, 3])
    wrong = rounded - np.einsum("tr,o->tro", operands.input[..., 3], operands.weight[:, 3])
    assert answer["error"] == pytest.approx((wrong**2).sum() / (exact**2).sum(), rel=1e-3)
    assert answer["factor"] == 1 and answer["balanced_activation"] == answer["activation"]
    plain = channel(LAYER, 3, bits="W16A16")
    assert plain["input_step"] is None and plain["weight_step"] is None and plain["error"] < 1e-9


def test_with_a_scale_for_every_token_the_step_is_the_median_tokens():
    answer, explored = channel(LAYER, 3, csb=False, ssc=False, tokens=True), models.explored("tiny")
    rows = np.asarray(explored.stats.samples[LAYER])
    assert answer["input_step"] == pytest.approx(np.median(np.abs(rows).max(axis=-1) / 127), rel=1e-5)
    assert "a scale for every token" in answer["balancing"] and "tokens=1" in answer["link"]


def test_its_link_opens_what_was_asked_for():
    answer = channel("blocks.0.proj", 2, timestep=20, bits="W8A8", csb=True, ssc=False, strength=1)
    selection, ignored = Selection.from_query(dict(parse_qsl(answer["link"].removeprefix("?"))))
    chosen = Selection(model="tiny", layer="blocks.0.proj", channel=2, timestep=20, ssc=False, strength=1)
    assert (selection, ignored) == (replace(chosen, weight_bits=8), [])
    assert "tab=inspect" in answer["link"] and (answer["balancing"], answer["bits"]) == ("CSB", "W8A8")


def test_a_layer_that_nothing_balances_keeps_its_channel():
    answer = channel("blocks.0.fc2", 1)
    assert answer["factor"] == 1 and answer["balanced_weight"] == answer["weight"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"channel": 16}, "channel: expected 0 to 15 in blocks.1.fc1; got 16"),
        ({"channel": -1}, "channel: expected 0 to 15 in blocks.1.fc1; got -1"),
        ({"channel": 1.5}, "channel: expected a whole number"),
        ({"layer": "blocks.9.fc1"}, "layer: expected one of .*got 'blocks.9.fc1'"),
        ({"timestep": 1000}, "timestep: .* from 0 to 999; got 1000"),
        ({"bits": "W99"}, "bits: expected .* got 'W99'"),
        ({"csb": False}, "ssc: needs csb"),
        ({"strength": 3}, "strength: .*got 3"),
        ({"model": "huh"}, "model: expected one of tiny.*got 'huh'"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(asked, message):
    with pytest.raises(gr.Error, match=message):
        channel(**({"layer": LAYER, "channel": 0} | asked))
