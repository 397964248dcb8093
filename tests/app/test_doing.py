"""One channel's doing: the pictures are the engine's, drawn once, cancelled within a step; numbers and words agree."""

import json
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
import torch

import ptq4dit
from app.services import cache, channel_grid, doing, models, takes
from app.services.doing import STEPS, Drawn, Frame, Question, plan, run
from app.state import Selection
from app.tabs import doing_view, inspect_data
from ptq4dit.methods.channels import ChannelChange, change_channels
from ptq4dit.quantized.operands import layer_operands

pytestmark = pytest.mark.usefixtures("explored_once")
LAYER, CHANNEL = "blocks.1.fc1", 5


@pytest.fixture(autouse=True)
def nothing_kept():
    yield
    cache.forget_everything()


def ask(gain=1.0, curve="", **chosen):
    usual = {"model": "tiny", "layer": LAYER, "channel": CHANNEL, "strength": 1, "class_id": 2, "seed": 3}
    return Question(selection=Selection(**(usual | chosen)), gain=gain, curve=curve)


def last(question):
    *_, frame = run(question)
    assert frame.finished
    return frame


def by_hand(changes, bits=(4, 8), strength=1, **scales):
    """The picture as the engine draws it."""
    chosen = models.explored("tiny", strength)
    config = ptq4dit.QuantConfig(weight_bits=bits[0], activation_bits=bits[1], csb=False, ssc=False, **scales)
    bundle = change_channels(chosen.dit, chosen.stats, config, changes)
    return ptq4dit.generate(bundle, [2], steps=STEPS, seed=3, guidance_scale=4.0, sampler="ddim")


def test_the_pictures_are_what_the_engine_makes_and_held_against_full_precision():
    drawn = last(ask(gain=0.0)).drawn
    assert list(drawn) == ["float", "rounded", "spared", "balanced", "scaled"]
    exact = by_hand({})
    factor = torch.from_numpy(np.asarray(doing_factor()))
    expected = {
        "float": {},
        "rounded": {LAYER: ChannelChange()},
        "spared": {LAYER: ChannelChange(kept=(CHANNEL,))},
        "balanced": {LAYER: ChannelChange(factor=factor)},
        "scaled": {LAYER: ChannelChange(rounded=False, gains={CHANNEL: 0.0})},
    }
    for name, changes in expected.items():
        picture = by_hand(changes)
        torch.testing.assert_close(drawn[name].pictures, picture, rtol=0, atol=2e-3)
        if name != "float":
            wanted = -10 * torch.log10((picture - exact).square().mean()).item()
            assert drawn[name].psnr[0] == pytest.approx(wanted, abs=0.2)
    assert len({one.pictures.sum().item() for one in drawn.values()}) == 5


def test_with_a_scale_for_every_token_the_pictures_are_rounded_so_and_say_so():
    frame = last(ask(tokens=True, activation_bits=4))
    scales = {"activation_granularity": "per_token", "activation_symmetric": True}
    picture = by_hand({LAYER: ChannelChange(kept=(CHANNEL,))}, (4, 4), **scales)
    torch.testing.assert_close(frame.drawn["spared"].pictures, picture, rtol=0, atol=2e-3)
    static = by_hand({LAYER: ChannelChange(kept=(CHANNEL,))}, (4, 4))
    assert not torch.allclose(static, picture, atol=2e-3)
    cards = {card["name"]: card for card in doing_view.told(frame, 1)["cards"]}
    assert "a scale for every token" in cards["spared"]["detail"]


def doing_factor():
    from app.services.inspection import layer_view

    return layer_view("tiny", LAYER, True, True, 1).factors


def test_what_was_drawn_is_not_drawn_again(monkeypatch):
    first = last(ask()).drawn
    monkeypatch.setattr(doing, "_draw", None)
    again = last(ask()).drawn
    assert all(again[name].pictures is first[name].pictures for name in first)
    monkeypatch.undo()
    assert last(ask(gain=2.0)).drawn["float"].pictures is first["float"].pictures
    cache.forget_model("tiny")
    assert last(ask()).drawn["float"].pictures is not first["float"].pictures


@pytest.mark.parametrize(("curve", "scope"), [("layer", LAYER), ("all", takes.EVERY)])
def test_the_curve_has_a_point_for_each_number_of_channels_and_a_line(curve, scope):
    frame = last(ask(curve=curve, strength=8, weight_bits=8))
    points = [name for name in frame.drawn if name.startswith("top/")]
    assert points[:4] == ["top/0", "top/1", "top/2", "top/4"] and "line" in frame.drawn
    for name in (*points, "line"):
        assert frame.drawn[name].take.scope == scope and len(frame.drawn[name].psnr) == doing.SEEDS
    if curve == "layer":  # all of its 16 channels in float
        assert points[-1] == "top/16" and min(frame.drawn["top/16"].psnr) > 60 > max(frame.drawn["top/0"].psnr)
        rounded = by_hand({LAYER: ChannelChange()}, bits=(8, 8), strength=8)
        torch.testing.assert_close(frame.drawn["top/0"].pictures[:1], rounded, rtol=0, atol=2e-3)
    told = doing_view.told(frame, 7)["curve"]
    assert [one["kept"] for one in told["points"]] == [int(name.removeprefix("top/")) for name in points]
    assert told["pictures"] == doing.SEEDS and told["every"] == (curve == "all")
    assert told["line"] == pytest.approx(sum(frame.drawn["line"].psnr) / doing.SEEDS, abs=0.01)


def test_it_stops_within_a_step_and_goes_on_from_there():
    stop, seen = Event(), []
    for frame in run(ask(), stop):
        seen.append(frame)
        if "float" in frame.drawn and "step 2 of" in frame.note:
            stop.set()
    assert not seen[-1].finished and list(seen[-1].drawn) == ["float"]
    notes = [frame.note for frame in seen]
    assert not any("step 4" in note for note in notes[notes.index(f"Drawing 2 of 4, step 2 of {STEPS}") :])
    assert sum("Drawing 1" in frame.note for frame in run(ask())) == 0


def test_who_leaves_gives_the_place_in_the_line_up():
    from app.services.generation import DRAWING

    frames = run(ask())
    while "step" not in next(frames).note:
        pass
    frames.close()
    assert DRAWING._places == []


def test_a_layer_that_nothing_balances_has_no_balanced_picture_and_says_why():
    frame = last(ask(layer="blocks.0.fc2"))
    assert list(frame.drawn) == ["float", "rounded", "spared"]
    assert "Nothing balances this layer: " in doing_view.verdict(frame) and "GELU" in doing_view.verdict(frame)


def test_with_everything_in_float_there_is_only_what_the_channel_does():
    question = ask(gain=3.0, curve="layer", weight_bits=16, activation_bits=16)
    assert list(plan(question)) == ["float", "scaled"]
    assert "stay in float: choose fewer bits" in doing_view.verdict(last(question))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ask(channel=-1), "expected a pinned one"),
        (lambda: ask(gain=9.0), "gain: expected a number from 0.0 to 8.0"),
        (lambda: ask(gain=None), "gain: expected"),
        (lambda: ask(curve="most"), "curve: expected one of"),
        (lambda: last(ask(channel=16)), "channel: expected 0 to 15 in blocks.1.fc1; got 16"),
        (lambda: last(ask(layer="blocks.9.fc1")), "got 'blocks.9.fc1'"),
        (lambda: last(ask(class_id=7)), "class_id: expected 0 to 4"),
    ],
)
def test_what_cannot_be_drawn_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_layer_of_a_large_model_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(doing, "is_small", lambda model: False)
    with pytest.raises(ValueError, match="the curve is drawn for this layer alone"):
        plan(ask(curve="all"))
    assert plan(ask(curve="layer"))["top/0"].pictures == 1


def test_pictures_are_kept_in_bounds(monkeypatch):
    album, picture = takes.Album(), torch.zeros(1, 3, 8, 8)
    monkeypatch.setattr(takes, "BYTES", 3 * picture.nbytes)
    several = [replace(plan(ask())["float"], top=count) for count in range(4)]
    for take in several[:3]:
        album.put(take, picture)
    assert album.get(several[0]) is picture
    album.put(several[3], picture)
    assert album.get(several[1]) is None and album.get(several[0]) is picture


def fake(psnr, question=None):
    """A frame whose pictures have these distances."""
    question = question or ask()
    take = takes.Take(request=question.request)
    pictures = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    drawn = {name: Drawn(take=take, pictures=pictures, psnr=(value,)) for name, value in psnr.items()}
    return Frame(question=question, note="Finished", done=1.0, total=1, drawn=drawn, finished=True)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (20.0, 30.0, "makes **90 %** of the squared error"),
        (30.0, float("inf"), "makes **100 %**"),
        (30.0, 29.0, "carries none of the damage"),
        (30.0, 30.1, "carries next to nothing"),
        (float("inf"), float("inf"), "changes nothing in this picture"),
    ],
)
def test_the_verdict_says_how_much_is_the_channels(before, after, words):
    frame = fake({"float": 0.0, "rounded": before, "spared": after, "balanced": 33.3})
    assert words in doing_view.verdict(frame) and "33.3 dB" in doing_view.verdict(frame)


def test_what_the_page_is_told_is_plain_and_finite():
    told = doing_view.told(last(ask(gain=0.0, curve="layer")), 7)
    text = json.dumps(told, allow_nan=False)
    assert told["ticket"] == 7 and told["percent"] == 100 and not told["going"] and len(text) < 400_000
    assert [one["name"] for one in told["cards"]] == ["float", "rounded", "spared", "balanced", "scaled"]
    assert all(one["src"].startswith("data:image/") for one in told["cards"])
    assert all(one["db"] and one["difference"] for one in told["cards"][1:])
    assert f"Channel {CHANNEL} taken out" in [one["title"] for one in told["cards"]]


def test_the_grid_is_the_one_that_the_layer_is_rounded_to():
    found = inspect_data.place(["tiny", LAYER, CHANNEL, 4, 1])
    json.dumps(found, allow_nan=False)
    model = models.explored("tiny")
    config = ptq4dit.QuantConfig(weight_bits=16, activation_bits=4)
    operands = {
        way: layer_operands(model.dit.transformer, model.stats, LAYER, config, way) for way in ("none", "csb+ssc")
    }
    for name, one in (("rounded", operands["none"]), ("balanced", operands["csb+ssc"])):
        scale, zero_point = one.input_grid
        way = found["ways"][name]
        assert way["step"] == pytest.approx(scale) and way["first"] == pytest.approx(-zero_point * scale)
        assert way["levels"] == 16 and way["low"] <= way["first"]
    spared, rows = found["ways"]["spared"], model.stats.samples[LAYER].float().flatten(0, 1)
    changed = change_channels(model.dit, model.stats, config, {LAYER: ChannelChange(kept=(CHANNEL,))})
    layer = changed.transformer.get_submodule("transformer_blocks.1.ff.net.0.proj").rounded
    assert (
        spared["step"] == pytest.approx(float(layer.activation_scale))
        and spared["step"] <= found["ways"]["rounded"]["step"]
    )
    others = np.delete(rows.numpy(), CHANNEL, axis=1).ravel()
    assert sum(found["ways"]["rounded"]["rest"]) == others.size and sum(found["ways"]["rounded"]["own"]) == len(rows)
    middle = others[(others >= np.percentile(others, 0.5)) & (others <= np.percentile(others, 99.5))]
    levels = np.unique(np.round(middle / spared["step"]))
    assert abs(spared["used"] - (levels.max() - levels.min() + 1)) <= 1


def test_a_layer_in_float_has_no_grid_and_one_that_nothing_balances_two_ways():
    assert "levels" not in channel_grid.channel_grid("tiny", LAYER, CHANNEL, 16, 1)["ways"]["rounded"]
    assert list(channel_grid.channel_grid("tiny", "blocks.0.fc2", CHANNEL, 8, 1)["ways"]) == ["rounded", "spared"]


def test_the_most_salient_channel_is_the_one_that_the_dial_raised():
    found = inspect_data.salient(["tiny", LAYER, 16])["channel"]
    salience = models.explored("tiny", 16).stats.activation_salience[LAYER].amax(dim=0)
    assert salience[found] == salience.max()
    assert "problem" in inspect_data.salient(["tiny", "blocks.9.fc1", 16])
    assert "channel: expected 0 to 15" in inspect_data.place(["tiny", LAYER, 99, 8, 1])["problem"]
