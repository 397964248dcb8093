"""No number and no picture of one model is shown under another's name: another one is opened and every tab walked.

Beside the other model lie the demo's own results, as if somebody had copied the folder and trained on.
"""

import json
import os
import shutil
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from app.services import doing, fitting, loading, models, shelf
from app.services.result_files import FINGERPRINT
from app.services.stored import load_results
from app.state import FIELDS, Selection
from app.tabs import (
    compare_handlers,
    data_handlers,
    doing_view,
    game,
    inspect_api,
    inspect_data,
    learn_handlers,
    methods_handlers,
    start,
)
from app.tabs import learn_answers as answers
from app.tabs.data_charts import CHARTS
from ptq4dit.storage.provenance import same_model
from tests.app.other_models import write_others

DEMO = shelf.DEMO


@pytest.fixture(scope="module")
def others(make_dit, tmp_path_factory):
    """A DiT and a Stable Diffusion 3 with random weights, calibrated, and the demo's results beside each."""
    folder = tmp_path_factory.mktemp("others")
    write_others(folder, make_dit(seed=1))
    return folder


@pytest.fixture(scope="module", autouse=True)
def launched(others):
    """The app, launched with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTQ4DIT_MODEL", "\n".join(str(others / name) for name in ("dit", "sd3", "bare")))
        loading.forget_all()
        yield
    loading.forget_all()


def opened(model, **chosen):
    """The selection with which a model opens, changed, as the controls' values."""
    selection = replace(fitting.opening(model), **chosen)
    return [getattr(selection, name) for name in FIELDS]


def stored_views(model):
    """Everything on the page that is stored, not worked out: view -> what it shows."""
    values, session = opened(model), SimpleNamespace(session_hash=f"walk-{model}")
    yield "Start", start.examples(model)
    yield "Start's pictures", start.example([model, 0])
    yield "Learn's pictures", told(learn_handlers.draw_pictures, *values)
    yield "Learn's answer", told(answers.reveal_pictures, 0, *values)
    yield "Compare", compare_handlers.start_anew(session, ["W8A8", "W4A8"], *values)
    yield "speed", compare_handlers.draw_speed(*values)
    yield "game", game.reopened(*values)
    yield "Methods", methods_handlers.draw("psnr", *values)
    yield "a setting of Methods", told(methods_handlers.choose, "1/W4A8", model)
    yield "files", data_handlers.draw_files(*values)
    for key in ("start", "dial", "methods-ranking", "methods-differences", "methods-factorial"):
        yield f"chart {key}", told(data_handlers.preview, key, *values)
        yield f"data of {key}", told(data_handlers.chart_data, key, model=model)


def told(handler, *values, **named):
    """What a handler shows, or the message that it ends with."""
    try:
        return handler(*values, **named)
    except gr.Error as error:
        return f"refused: {error.message}"


def compare(values):
    """A run of Compare."""
    session = SimpleNamespace(session_hash="somebody")
    return compare_handlers.compare_live(session, ["W8A8"], "ddim", "simulated", 8, *values)


def demo_numbers():
    """What only the demo model's results hold: its pictures, its PSNR, its times."""
    results = load_results("demo")
    table = start.example(["demo", 0])
    pictures = [table["left"]["src"][:200], *(view["right"]["src"][:200] for view in table["views"].values())]
    benchmark = json.loads((DEMO / "results" / "benchmark.json").read_text())["results"]
    speed = json.loads((DEMO / "results" / "speed.json").read_text())["contestants"].values()
    numbers = [repr(cell["metrics"]["psnr"]["mean"]) for cell in benchmark.values()]
    numbers += [f"{mean.psnr:.1f} dB" for mean in results.means.values()]
    numbers += [f"{batch['ms']:.1f}" for one in speed for batch in one.get("batches", {}).values()][:6]
    return pictures, numbers


@pytest.mark.parametrize("model", ["dit", "sd3", "bare"])
def test_nothing_of_the_demo_is_shown_under_another_name(model):
    loading.opened(model)
    pictures, numbers = demo_numbers()
    own = dict(stored_views("demo"))
    for view, shown in stored_views(model):
        text = json.dumps(shown, default=str)
        assert not any(one in text for one in pictures), view
        if view != "Compare":  # which shows nothing yet
            assert text != json.dumps(own[view], default=str), view
        if view != "files":  # which names the files, and that they are another's
            assert not any(f'"{one}"' in text or f" {one}" in text for one in numbers), view
        if view not in ("Compare", "files"):
            said = ("other weights", "stored for", "refused", "Speed is measured of models that")
            assert any(one in text for one in said), (view, text[:300])
    assert any("Make" in json.dumps(shown, default=str) for _, shown in stored_views(model))


def test_files_of_another_model_are_told_from_ones_own():
    rows = {row["title"]: row["cells"][0] for row in data_handlers.files("dit")["rows"]}
    assert rows["results.json"] == rows["speed.json"] == rows["feel.json"] == "other weights: not shown"
    assert "random weights" in rows["speed_xl.json"]
    rows = {row["title"]: row["cells"][0] for row in data_handlers.files("demo")["rows"]}
    assert rows["results.json"] == rows["speed.json"] == rows["feel.json"] == "demo"


def test_the_demos_files_all_say_of_which_model_they_are():
    fingerprint = models.identity("demo")
    for file in (DEMO / "results").glob("*.json"):
        row = next(row for row in data_handlers.files("demo")["rows"] if row["title"] == file.name)
        assert row["cells"][0] != "not said", file.name
    assert same_model(loading.opened("demo").fingerprint, fingerprint)  # what its calibration claims is true


@pytest.mark.parametrize("model", ["dit", "sd3"])
@pytest.mark.parametrize("which", [0, -1])
def test_what_is_worked_out_is_the_models_own(model, which):
    """Every chart of a layer, first and last, of two families: the engine's numbers for this very model."""
    import ptq4dit

    layer = models.outline(model).layers[which]
    values = opened(model, layer=layer)
    stats = ptq4dit.Calibration.load(loading.calibration_file(model))
    payload = inspect_data.layer([model, layer, 1])
    assert payload["channels"] == stats.weight_salience[layer].numel()
    weight = np.frombuffer(b64decode(payload["weight"]), "<f4")
    np.testing.assert_allclose(weight, stats.weight_salience[layer].numpy(), rtol=1e-5)
    assert len(inspect_data.errors([model, 4, 8, 1, False])["measures"]["none"]) == len(stats.layers)
    effect = inspect_data.effect([model, layer, 4, 8, 1, False])
    assert effect["variants"]["none"]["error"] > 0
    assert "activation" in inspect_data.channel([model, layer, 0, 1])
    overview = inspect_data.overview([model, 1])
    assert overview["layers"] == list(stats.layers) and len(set(map(tuple, overview["places"]))) == len(stats.layers)
    for key in [key for key in CHARTS if key.startswith(("inspect", "learn"))]:
        figure, _ = data_handlers.preview(key, *values)
        assert figure.type == "plotly"
    for draw in (learn_handlers.follow_salience, learn_handlers.follow_timesteps):
        assert len(draw(*values)) == 3
    assert len(learn_handlers.follow_balance(50, *values)) == 3
    assert inspect_api.layer_salience(layer, model=model)["model"] == model
    assert inspect_api.layers(model) == list(stats.layers)


def test_two_models_of_one_shape_have_their_own_numbers():
    """The same layer names, other weights: nothing kept for the one answers for the other."""
    layer = "blocks.1.fc1"
    answers_ = [inspect_data.layer([model, layer, 1])["weight"] for model in ("dit", "demo")]
    assert answers_[0] != answers_[1]
    assert inspect_data.layer(["dit", layer, 1])["weight"] == answers_[0]


def test_a_calibration_of_other_weights_is_refused(others, tmp_path, monkeypatch):
    """The weights change, calibration and results stay: they are of the former weights."""
    from ptq4dit.storage.home import CALIBRATION

    folder = tmp_path / "changed"
    shutil.copytree(others / "bare", folder)
    shutil.copy(DEMO / CALIBRATION, folder / CALIBRATION)
    shutil.copytree(DEMO / "results", folder / "results")
    monkeypatch.setenv("PTQ4DIT_MODEL", str(folder))
    loading.forget_all()
    assert loading.opened("changed").stats is None
    with pytest.raises(loading.ModelMissing, match="of other weights than these"):
        models.explored("changed")
    assert "other weights" in start.examples("changed")["problem"]
    assert models.outline("changed").layers == ()
    loading.forget_all()


def test_weights_younger_than_the_calibration_are_not_believed_before_they_are_loaded(others, tmp_path, monkeypatch):
    folder = tmp_path / "younger"
    shutil.copytree(others / "dit", folder)
    weights = next((folder / "transformer").glob("*.safetensors"))
    later = (folder / "calibration.safetensors").stat().st_mtime + 60
    os.utime(weights, (later, later))
    monkeypatch.setenv("PTQ4DIT_MODEL", str(folder))
    loading.forget_all()
    assert models.identity("younger") is None
    assert "shown once its weights are loaded" in start.examples("younger")["problem"]
    loading.opened("younger")
    assert models.identity("younger") is not None
    loading.forget_all()


def test_its_own_results_are_shown(others, tmp_path, monkeypatch):
    folder = tmp_path / "own"
    shutil.copytree(others / "dit", folder)
    file = folder / "results" / "results.json"
    content = json.loads(file.read_text())
    content["made"][FINGERPRINT] = loading.opened("dit").fingerprint
    file.write_text(json.dumps(content))
    monkeypatch.setenv("PTQ4DIT_MODEL", str(folder))
    loading.forget_all()
    assert len(start.examples("own")["examples"]) == len(content["examples"])
    loading.forget_all()


def test_without_calibration_the_page_says_what_to_run():
    for answer in (inspect_data.layer(["bare", "blocks.0.qkv", 1]), inspect_data.overview(["bare", 1])):
        assert answer["problem"] == "There is no calibration of bare yet. Make it: python -m ptq4dit prepare bare"
    about = models.outline("bare")
    assert about.layers == () and about.labels == tuple(f"class {i}" for i in range(5))


def test_one_model_gives_way_to_another_where_there_is_no_room(monkeypatch):
    from app.services import contenders, room
    from app.services.request import Variant

    loading.forget_all()
    variant = Variant(weight_bits=4, activation_bits=8, csb=True, ssc=True)
    first = contenders.contender("dit", variant, 1)
    models.explored("sd3")
    assert loading.in_memory() == ("dit", "sd3") and contenders.contender("dit", variant, 1) is first
    monkeypatch.setattr(room, "available", lambda: -(2**60))
    loading.forget("bare")
    loading.opened("bare")
    assert loading.in_memory() == ("bare",)
    monkeypatch.undo()
    assert contenders.contender("dit", variant, 1) is not first  # its quantized ones were let go with it


def test_no_more_than_a_few_models_are_in_memory(monkeypatch):
    monkeypatch.setattr(loading, "MOST", 2)
    loading.forget_all()
    for name in ("dit", "sd3", "bare"):
        loading.opened(name)
    assert loading.in_memory() == ("sd3", "bare")


def test_a_quantized_folder_says_what_it_cannot_show(others, tmp_path, monkeypatch):
    import ptq4dit

    explored = models.explored("dit")
    ptq4dit.save_quantized(
        ptq4dit.quantize(explored.dit, explored.stats, ptq4dit.QuantConfig(weight_bits=4)), tmp_path / "w4"
    )
    monkeypatch.setenv("PTQ4DIT_MODEL", str(tmp_path / "w4"))
    loading.forget_all()
    assert models.outline("w4").quantized
    assert inspect_data.layer(["w4", "blocks.0.qkv", 1])["problem"] == loading.QUANTIZED
    with pytest.raises(gr.Error, match="holds a quantized model"):
        next(
            compare_handlers.compare_live(
                SimpleNamespace(session_hash="q"), ["W4A8"], "ddim", "simulated", 8, *opened("w4")
            )
        )
    loading.forget_all()


def test_a_text_conditioned_model_draws_a_prompt():
    values = opened("sd3", prompt="a red cube", steps=2, guidance=2.0)
    *_, last = compare_handlers.compare_live(
        SimpleNamespace(session_hash="t"), ["W8A8"], "ddim", "simulated", 8, *values
    )
    cards = last[1]
    assert cards["label"] == "sd3: a red cube, seed 0" and cards["cards"][1]["psnr"]
    assert last[0]["note"].startswith("Finished")
    with pytest.raises(gr.Error, match="prompt: expected what sd3 is to draw; got none"):
        next(
            compare_handlers.compare_live(
                SimpleNamespace(session_hash="t"), ["W8A8"], "ddim", "simulated", 8, *opened("sd3")[:-1], ""
            )
        )


def test_both_streams_stand_on_the_map():
    overview = inspect_data.overview(["sd3", 1])
    assert "context.qkv" in overview["rows"] and "qkv" in overview["rows"]
    names = [name for name in overview["layers"] if name.endswith("context.qkv")]
    assert [overview["places"][overview["layers"].index(name)][1] for name in names] == list(range(len(names)))


def test_a_link_says_which_model(others):
    from app.components.bar import write_address
    from app.components.controls import open_link

    *values, notice = open_link(SimpleNamespace(query_params={"model": "sd3", "layer": "blocks.0.context.qkv"}))
    chosen = dict(zip(FIELDS, values, strict=True))
    assert chosen["model"] == "sd3" and chosen["layer"] == "blocks.0.context.qkv" and notice == ""
    assert chosen["prompt"] == fitting.prompts()[0]
    *_, notice = open_link(SimpleNamespace(query_params={"model": str(Path(others) / "dit")}))
    assert "Part of the link was ignored" in notice
    assert '"model": ""' in write_address()  # with several models every address names its own


def test_the_default_selection_is_the_demos():
    assert Selection().model == DEMO.name


def test_a_channel_of_any_family_is_followed_to_the_picture():
    """Sites by name: a text-conditioned model's too; a model without a calibration says what it lacks."""
    layer = next(name for name in models.layers("sd3") if "context" in name)
    chosen = replace(fitting.opening("sd3"), layer=layer, channel=1, guidance=2.0)
    *_, frame = doing.run(doing.Question(selection=chosen, gain=0.0))
    shown = doing_view.told(frame, 1)
    assert frame.finished and [one["name"] for one in shown["cards"]][-1] == "scaled" and len(shown["cards"]) >= 4
    assert all(one["db"] for one in shown["cards"][1:])
    with pytest.raises(loading.ModelMissing, match="no calibration of bare"):
        list(doing.run(doing.Question(selection=replace(fitting.opening("bare"), channel=1))))
