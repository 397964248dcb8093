"""One channel's story: its numbers are what numpy finds, its words follow from them, in every family."""

import numpy as np
import pytest

from app.content import story as say
from app.services import models
from app.services import story as service
from app.services.inspection import layer_view
from app.state import FIELDS, Selection
from app.tabs import story

LAYER = "blocks.1.fc1"


def asked(**changes):
    return vars(Selection(**{"model": "tiny", "layer": LAYER, "strength": 1} | changes))


@pytest.mark.usefixtures("explored_once")
def test_levels_are_those_of_the_one_grid():
    found, stats = service.story("tiny", LAYER, 1, 3, 8), models.explored("tiny").stats
    low, high = np.asarray(stats.activation_min[LAYER]).min(0), np.asarray(stats.activation_max[LAYER]).max(0)
    assert found.step == pytest.approx((high.max() - low.min()) / 255, rel=1e-5)
    own = np.arange(np.rint(min(low[3], 0) / found.step), np.rint(max(high[3], 0) / found.step) + 1)
    assert abs(found.levels[3] - len(own)) <= 1
    assert found.levels.max() <= 257 and found.channel == 3
    values = np.asarray(stats.samples[LAYER].float())[..., 3].ravel()
    np.testing.assert_array_equal(found.values, values)


@pytest.mark.usefixtures("explored_once")
def test_the_most_salient_channel_is_followed_where_none_is_pinned():
    view = layer_view("tiny", LAYER, True, True, 1)
    for channel in (-1, 999):
        found = service.story("tiny", LAYER, 1, channel, 8)
        assert found.channel == int(view.activation[len(view.timesteps) // 2].argmax())
    assert found.activation[1] == pytest.approx(found.activation[0] * found.factor, rel=1e-5)
    assert found.weight[1] == pytest.approx(found.weight[0] / found.factor, rel=1e-5)
    assert found.difference < 1e-5
    assert found.average == pytest.approx(float(view.weights @ found.salience), rel=1e-5)


@pytest.mark.usefixtures("explored_once")
def test_the_factor_goes_where_the_family_says():
    assert service.story("tiny", LAYER, 1, -1, 8).makers == ("transformer_blocks.1.norm1.linear",)
    assert service.story("tiny", "blocks.0.proj", 1, -1, 8).makers == ("transformer_blocks.0.attn1.to_v",)
    fc2 = story.story(asked(layer="blocks.0.fc2"))["steps"]
    assert "rounded as it is" in fc2[2]["text"] and "rounded as it is" in fc2[3]["text"] and not fc2[2]["after"]
    assert fc2[3]["makers"] == ["nothing in front"]


@pytest.mark.usefixtures("explored_once")
def test_six_steps_are_told_and_drawn():
    told = story.story(asked(channel=3))
    assert told["title"] == "Channel 3 of blocks.1.fc1"
    kinds = ["line", "bars", "bars", "flow", "time", "pictures"]
    assert [step["kind"] for step in told["steps"]] == kinds and len(say.TITLES) == len(kinds)
    assert all(step["text"] for step in told["steps"])
    assert "nothing of this kind is stored for tiny" in told["steps"][5]["text"].lower()
    assert len(told["steps"][2]["after"]) == len(told["steps"][2]["before"]) == 16


def test_the_demos_pictures_end_the_story():
    shown = story._pictures(Selection(weight_bits=8))
    assert len(shown["pictures"]) == 3 and shown["pictures"][0]["word"] == "the original"
    assert "closer" in shown["text"] and "broken" in shown["text"]


def test_what_cannot_be_told_says_why():
    assert "model: expected one of" in story.story(asked(model="nobody"))["problem"]
    assert "expected its fields by name" in story.story([])["problem"]
    assert "expected" in story.story(dict.fromkeys(FIELDS))["problem"]


def test_a_channel_that_does_not_stand_out_is_said_not_to():
    assert "does not stand out" in say.outlier(3, 2.0, 1.0, 200, 256, 100)
    assert "36 times as far" in say.outlier(3, 36.0, 1.0, 250, 256, 7)
    assert "varies 3-fold" in say.time(3, np.array([900, 100]), np.array([3.0, 1.0]), 2.0)
    assert "hardly changes" in say.time(3, np.array([900, 100]), np.array([1.05, 1.0]), 1.0)


@pytest.mark.parametrize(
    ("others", "said"),
    [((7, 90), "gains levels, from 7 to 90"), ((9, 4), "loses levels"), ((5, 5), "keeps its levels")],
)
def test_the_others_gain_lose_or_keep_by_sign(others, said):
    assert said in say.balance(3, (60.0, 2.0), (0.04, 1.2), 0.03, others)


@pytest.mark.parametrize(
    ("balanced", "said"), [(35.0, ": closer."), (20.1, ": hardly another."), (15.0, ": further away.")]
)
def test_the_picture_is_judged_by_sign(balanced, said):
    assert say.picture("torus, seed 0", "W8A8", 20.0, balanced).endswith(said)


def test_folding_is_told_by_who_takes_it_in():
    assert "done once, before the model runs" in say.folding(("a",), False, "", 1e-7)
    assert "none of it, so it is multiplied" in say.folding((), True, "behind a GELU", 1e-7)
    assert "what it can, and the rest is multiplied" in say.folding(("a",), True, "", 1e-7)
