import json
import subprocess
import sys

import pytest
from PIL import Image

from ptq4dit.cli import main


@pytest.fixture(scope="module")
def model(dit, tmp_path_factory):
    from diffusers import DiTPipeline

    path = tmp_path_factory.mktemp("models") / "tiny"
    DiTPipeline(dit.transformer, dit.vae, dit.scheduler).save_pretrained(path)
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_from_float_model_to_quantized_pictures(model, tmp_path, capsys):
    stats, quantized, picture = tmp_path / "c.safetensors", tmp_path / "w4a8", tmp_path / "row.png"
    assert run("calibrate", model, stats, "--timesteps", 2, "--samples", 2, "--steps", 3) == 0
    assert run("quantize", model, stats, quantized, "--weight-bits", 4, "--no-ssc") == 0
    assert run("sample", quantized, picture, "--classes", 1, 3, 0, "--steps", 2) == 0
    assert Image.open(picture).size == (48, 16)
    capsys.readouterr()
    assert run("info", quantized) == 0
    text = json.loads(capsys.readouterr().out)
    assert text["label"] == "W4A8" and text["config"]["ssc"] is False and text["classes"]["3"] == "class 3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "{model}", "out.png", "--classes", "77"), "from 0 to 4, got 77"),
        (("quantize", "{model}", "none.safetensors", "out"), "does not exist"),
        (("quantize", "{model}", "none.safetensors", "out", "--no-csb"), "ssc=True has nothing to act on"),
        (("calibrate", "{model}", "out", "--timesteps", "0"), "timesteps to be an integer of at least 1"),
    ],
)
def test_bad_input_is_a_message(model, capsys, arguments, message):
    assert run(*(argument.format(model=model) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "ptq4dit", "--help"], capture_output=True, text=True, check=True)
    assert "calibrate" in result.stdout
