"""Stored results: read without torch, found by choice, refused when incomplete."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.services.stored import Choice, read_results

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("csb", "ssc", "key"),
    [
        (False, False, "W4A8/x8/none"),
        (True, False, "W4A8/x8/csb"),
        (True, True, "W4A8/x8/csb+ssc"),
        (False, True, "W4A8/x8/none"),
    ],
)
def test_switches_name_the_variant(csb, ssc, key):
    assert Choice(bits="W4A8", strength=8, csb=csb, ssc=ssc).key == key


def test_pictures_and_means_are_those_of_the_choice(stored_folder):
    results = read_results(stored_folder)
    choice = Choice(bits="W8A8", strength=8, csb=True)  # the 11th of the twelve keys
    assert results.picture(0, choice).psnr == 20.0 + 3 * 10 + 1.5
    assert results.mean(choice).psnr == 40.0
    with Image.open(stored_folder / "torus-10.webp") as image:
        assert np.array_equal(results.picture(0, choice).pixels(), np.asarray(image))


def test_bits_and_strengths_are_read_off(stored_folder):
    results = read_results(stored_folder)
    assert results.bits == ("W4A8", "W8A8")
    assert results.strengths == (1, 8)


def test_what_is_not_stored_is_refused(stored_folder):
    results = read_results(stored_folder)
    with pytest.raises(ValueError, match=r"expected one of .*W4A8/x1/none.* got W3A8/x1/none"):
        results.picture(0, Choice(bits="W3A8"))
    with pytest.raises(ValueError, match="expected 0 to 1, got 2"):
        results.example(2)


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(ValueError, match=r"run python -m ptq4dit prepare"):
        read_results(tmp_path)


def test_a_missing_picture_is_named(stored_folder):
    (stored_folder / "torus-3.webp").unlink()
    with pytest.raises(ValueError, match=r"torus-3\.webp"):
        read_results(stored_folder)


def test_another_format_is_refused(stored_folder):
    file = stored_folder / "results.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    with pytest.raises(ValueError, match="expected format 1, got 2"):
        read_results(stored_folder)


def test_new_results_are_seen_without_a_restart(stored_folder):
    before = read_results(stored_folder)
    file = stored_folder / "results.json"
    data = json.loads(file.read_text())
    data["means"]["W4A8/x1/none"]["psnr"] = 12.5
    file.write_text(json.dumps(data))
    assert read_results(stored_folder).mean(Choice()).psnr == 12.5 != before.mean(Choice()).psnr


def test_start_needs_no_torch():
    code = "import sys, app.tabs.start; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def _damaged(folder, change):
    file = folder / "results.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("examples"),
        lambda data: data.pop("made"),
        lambda data: data.update(examples=[], means=[]),
        lambda data: data.update(examples=[1]),
        lambda data: data["examples"].clear(),
        lambda data: data["means"].pop("W4A8/x1/csb+ssc"),
        lambda data: data["means"].update({"W4A8": {}}),
        lambda data: data["means"]["W4A8/x1/none"].update(psnr="much"),
        lambda data: data["examples"][0].pop("seed"),
        lambda data: data["examples"][0].update(full_precision={"file": 3}),
        lambda data: data["examples"][0]["quantized"].pop("W4A8/x1/none"),
        lambda data: data["examples"][1]["quantized"]["W4A8/x1/none"].update(psnr=[]),
    ],
)
def test_a_damaged_file_is_refused_as_a_missing_one_is(stored_folder, change):
    _damaged(stored_folder, change)
    with pytest.raises(ValueError, match=r"stored results: expected all of them in results\.json, got a damaged file"):
        read_results(stored_folder)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_picture_outside_of_the_folder_is_not_opened(stored_folder, tmp_path_factory, absolute):
    other = tmp_path_factory.mktemp("other") / "secret.webp"
    (stored_folder / "torus-3.webp").rename(other)
    name = str(other) if absolute else f"../{other.parent.name}/secret.webp"
    _damaged(stored_folder, lambda data: data["examples"][0]["full_precision"].update(file=name))
    with pytest.raises(ValueError, match=r"expected pictures beside results\.json, got one elsewhere"):
        read_results(stored_folder)
