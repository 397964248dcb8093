"""A model's folder as a stranger left it: the app starts, the page is built, and no number in a file is believed."""

import json
import struct
import time

import pytest

from app.services import calibrated, models, shelf
from app.services.stored_benchmark import read_benchmark
from app.services.stored_speed import read_speed

INDEX, CONFIG = "model_index.json", "transformer/config.json"
DIT = {"_class_name": "DiTPipeline", "id2label": {"0": "sphere"}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model's folder with nothing but an index and a config, which the app was launched with."""
    made = tmp_path / "strange"
    (made / "transformer").mkdir(parents=True)
    for name, content in ((INDEX, DIT), (CONFIG, {"num_embeds_ada_norm": 3})):
        (made / name).write_text(json.dumps(content))
    monkeypatch.setenv("PTQ4DIT_MODEL", str(made))
    return made


def outlined():
    begun = time.process_time()
    found = models.outline("strange")
    assert time.process_time() - begun < 1
    return found


def test_an_honest_folder_names_its_classes(folder):
    assert outlined().known and outlined().labels == ("sphere", "class 1", "class 2")


@pytest.mark.parametrize("count", [10**9, -1, None, "3", 2.0, True, [3], {}])
def test_no_number_of_classes_is_believed(folder, count):
    (folder / CONFIG).write_text(json.dumps({"num_embeds_ada_norm": count}))
    assert outlined() == models.Outline(name="strange", known=False)


@pytest.mark.parametrize("text", ["{", "[]", "3", "[" * 100_000, '{"a": NaN}', "\xff", " " * (shelf.SMALL + 1) + "{}"])
def test_what_is_no_small_object_says_nothing(folder, text):
    for name in (INDEX, CONFIG):
        (folder / name).write_text(text, encoding="latin-1")
    assert shelf.index_of(str(folder)) == shelf.config_of(str(folder)) == {}
    assert not outlined().known


@pytest.mark.parametrize("index", [{"_class_name": ["DiTPipeline"]}, {"_class_name": {}, "id2label": 3}])
def test_a_pipeline_of_no_name_is_taken_for_one_that_is_given_prompts(folder, index):
    (folder / INDEX).write_text(json.dumps(index))
    assert outlined().prompted


@pytest.mark.parametrize("labels", [[1, 2], "names", {"first": "sphere", "9" * 5000: "cube"}, {"0": None}, None])
def test_labels_of_another_form_are_left_out(folder, labels):
    (folder / INDEX).write_text(json.dumps(DIT | {"id2label": labels}))
    assert outlined().known and outlined().labels[1:] == ("class 1", "class 2")


@pytest.mark.parametrize(
    "about",
    [b"[" * 100_000, b"[]", b'{"__metadata__": {"model": 3, "names": "{\\"activation_min\\": [\\"a\\"]}"}}']
    + [b'{"__metadata__": {"model": "m", "names": "{\\"activation_min\\": ' + bad + b'}"}}' for bad in (b"3", b"[3]")],
)
def test_a_calibration_that_is_none_has_no_layers(folder, about):
    file = folder / "calibration.safetensors"
    file.write_bytes(struct.pack("<Q", len(about)) + about)
    assert calibrated.read_header(file) is None and models.layers("strange") == ()


@pytest.mark.parametrize(
    "change",
    [
        {"results": {"W4A8": {}}},
        {"results": {"xx/W4A8/rtn": {"metrics": {}}}},
        {"results": {"x1/W4A8/rtn": {"metrics": {"psnr": {"mean": "much"}}}}},
        {"results": {"x1/W4A8/rtn": {"metrics": {}, "psnr_each": [None]}}},
        {"results": [1]},
        {"methods": {"rtn": {"other": 1}}},
        {"made": 3},
    ],
)
def test_a_damaged_benchmark_is_refused(benchmark_folder, change):
    file = benchmark_folder / "benchmark.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=r"expected all of them in benchmark\.json, got a damaged file; run python"):
        read_benchmark(benchmark_folder)


@pytest.mark.parametrize("content", [{"contestants": []}, {"contestants": {"a": {"batches": [1]}}}, {"made": 3}])
def test_a_damaged_table_of_speed_is_refused(tmp_path, content):
    (tmp_path / "speed.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"expected all of them in speed\.json, got a damaged file; run python"):
        read_speed(tmp_path)


def test_the_page_is_built_whatever_is_in_the_folder(folder):
    from app.page import build

    (folder / INDEX).write_text("{")
    (folder / "results").mkdir()
    for name in ("results", "benchmark", "speed", "feel"):
        (folder / "results" / f"{name}.json").write_text("[" * 100_000)
    build()
