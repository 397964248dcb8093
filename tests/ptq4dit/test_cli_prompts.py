"""Prompts on the command line: sampled in order, from files and options, the shipped ones where none are given."""

import json

import pytest
from PIL import Image

from ptq4dit.cli import main
from ptq4dit.sampling.prompts import default_prompts
from tests.ptq4dit.tiny_pipelines import tiny_sd3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "sd3"
    tiny_sd3(third_encoder=False).save_pretrained(path)
    return str(path)


def test_sample_draws_prompts(folder, tmp_path, capsys):
    texts, picture = tmp_path / "texts.txt", str(tmp_path / "x.png")
    texts.write_text("two cats\n\na fox\n", encoding="utf-8")
    given = ("--prompt", "a red cube", "--prompts", str(texts), "--steps", "2", "--out", picture)
    assert main(["sample", folder, *given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["prompts"] == ["a red cube", "two cats", "a fox"] and found["steps"] == 2
    assert found["guidance_scale"] == 7.0, "the pipeline's own"
    assert Image.open(picture).size == (3 * 16, 16)
    assert main(["sample", folder, "--steps", "1", "--out", picture, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prompts"] == default_prompts()[:4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--classes", "1"), "Expected --prompt or --prompts for a StableDiffusion3Pipeline, got --classes"),
        (("--classes", "1", "--prompt", "a"), "--classes or prompts, got both"),
        (("--prompts", "no-such-file.txt"), "a text file with a prompt a line"),
    ],
)
def test_what_does_not_fit_is_said(folder, options, message, capsys):
    assert main(["sample", folder, *options]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err


def test_calibrate_hands_prompts_on(folder, tmp_path, monkeypatch):
    given = []

    class Stop(Exception):
        pass

    def calibrate(model, config, **more):
        given.append(more["prompts"])
        raise Stop

    monkeypatch.setattr("ptq4dit.calibration.parts.calibrate", calibrate)
    (tmp_path / "texts.txt").write_text("two cats\n", encoding="utf-8")
    for options in ((), ("--prompts", str(tmp_path / "texts.txt"))):
        with pytest.raises(Stop):
            main(["calibrate", folder, *options])
    assert given == [default_prompts(), ["two cats"]]
