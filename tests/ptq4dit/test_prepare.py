"""Preparing a model: what is made is of this very model, nothing is made twice, whatever stops it is gone on from."""

import dataclasses
import json

import pytest
import torch

import ptq4dit
from ptq4dit import Cancelled
from ptq4dit.calibration import parts
from ptq4dit.cli import main
from ptq4dit.config.balancing import VARIANTS
from ptq4dit.config.prepare import PrepareConfig
from ptq4dit.config.sensitivity import Sensitivity
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.prepare.examples import Examples
from ptq4dit.prepare.run import STAGES, prepare, seconds_needed
from ptq4dit.prepare.stage import Work
from ptq4dit.storage.home import home, homes, kept
from tests.ptq4dit.tiny_pipelines import CALL, tiny_sd3

MADE = {"command": "a test", "commit": "abc1234"}
CONFIG = PrepareConfig(
    calibration=ptq4dit.CalibrationConfig(timesteps=2, samples_per_timestep=6, steps=2),
    sensitivity=False,
    examples=2,
    pictures=2,
    bits=((4, 8),),
    per_token=False,
    steps=2,
)


def results(folder):
    return json.loads((folder / "results" / "results.json").read_text())


def test_everything_is_made_once_and_says_of_which_model_it_is(dit, tmp_path):
    told, config = [], dataclasses.replace(CONFIG, per_token=True)
    assert prepare(dit, tmp_path, config, MADE, tell=lambda *step: told.append(step)) == ["calibration", "examples"]
    own = fingerprint(dit.transformer)
    made = results(tmp_path)
    assert (
        made["made"]["model_fingerprint"] == ptq4dit.Calibration.load(tmp_path / "calibration.safetensors").model == own
    )
    assert [entry["class_id"] for entry in made["examples"]] == [0, 2]
    keys = [f"W4A8/x1/{way}{scales}" for scales in ("", "/token") for way in ("none", "csb", "csb+ssc")]
    assert list(made["means"]) == keys
    assert made["means"]["W4A8/x1/none"]["psnr"] != made["means"]["W4A8/x1/none/token"]["psnr"]
    for entry in made["examples"]:
        for picture in (entry["full_precision"], *entry["quantized"].values()):
            assert (tmp_path / "results" / picture["file"]).is_file()
    assert {stage for stage, _, _ in told} == {"calibration", "examples"} and told[-1][1] == told[-1][2]
    assert not (tmp_path / "unfinished").exists() and not list(tmp_path.rglob("*unfinished*"))
    assert prepare(dit, tmp_path, config, MADE) == []


def test_in_parts_it_is_the_calibration_of_all_images_at_once(dit, tmp_path):
    prepare(dit, tmp_path, dataclasses.replace(CONFIG, examples=0), MADE)
    made = ptq4dit.Calibration.load(tmp_path / "calibration.safetensors")
    once = ptq4dit.calibrate(dit, CONFIG.calibration)
    assert made.config == once.config
    for layer in once.layers:
        torch.testing.assert_close(made.activation_max[layer], once.activation_max[layer])
        torch.testing.assert_close(made.samples[layer], once.samples[layer], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("pieces", [3, 9])
def test_whatever_stops_it_nothing_is_made_twice(dit, tmp_path, pieces, monkeypatch):
    """Cancelled after so many questions, it goes on with what is missing."""
    monkeypatch.setattr(parts, "IMAGES", 4)
    asked = iter(range(10_000))
    with pytest.raises(Cancelled):
        prepare(dit, tmp_path, CONFIG, MADE, cancelled=lambda: next(asked) >= pieces)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    calls = []
    real = parts.calibrate
    monkeypatch.setattr(parts, "calibrate", lambda *a, **k: calls.append(a[1].first_sample) or real(*a, **k))
    prepare(dit, tmp_path, CONFIG, MADE)
    whole = tmp_path / "calibration.safetensors"
    assert len(calls) == (0 if whole in before else 2 - len(before))
    assert set(results(tmp_path)["means"]) == {"W4A8/x1/none", "W4A8/x1/csb", "W4A8/x1/csb+ssc"}


def test_a_second_one_is_refused_while_the_first_is_at_work(dit, tmp_path):
    refused, config = [], dataclasses.replace(CONFIG, examples=0)

    def meanwhile(*_told):
        with pytest.raises(ValueError, match=r"^Expected nobody else at work, got another prepare .* Wait for it"):
            prepare(dit, tmp_path, config, MADE)
        refused.append(True)

    prepare(dit, tmp_path, config, MADE, tell=meanwhile)
    assert refused and prepare(dit, tmp_path, config, MADE) == []


def test_two_that_make_examples_of_one_kind_lose_nothing(dit, tmp_path, monkeypatch):
    """While one makes its second model, another one makes those of other bits into the same file."""
    monkeypatch.setattr(Examples, "_quantized", lambda self, strength, config: self.model)
    config = dataclasses.replace(CONFIG, examples=1, pictures=1)
    stats = ptq4dit.calibrate(dit, config.calibration)
    work = Work(model=dit, home=tmp_path, config=config, made=MADE, stats=stats)

    def meanwhile(done, _total):
        if done == 1:
            Examples(dataclasses.replace(work, config=dataclasses.replace(config, bits=((8, 8),)))).run()

    Examples(dataclasses.replace(work, progress=meanwhile)).run()
    made, wanted = results(tmp_path), {f"{bits}/x1/{way}" for bits in ("W4A8", "W8A8") for way in VARIANTS}
    assert set(made["means"]) == wanted and all(set(entry["quantized"]) == wanted for entry in made["examples"])
    assert all((tmp_path / "results" / made["examples"][0]["quantized"][key]["file"]).is_file() for key in wanted)


def test_what_is_of_other_weights_is_made_anew_and_kept_aside(dit, make_dit, tmp_path):
    prepare(make_dit(seed=1), tmp_path, CONFIG, MADE)
    former = ptq4dit.Calibration.load(tmp_path / "calibration.safetensors").model
    assert prepare(dit, tmp_path, CONFIG, MADE) == ["calibration", "examples"]
    assert results(tmp_path)["made"]["model_fingerprint"] == fingerprint(dit.transformer)
    assert ptq4dit.Calibration.load(tmp_path / f"calibration-{former[:12]}.safetensors").model == former


def test_the_sensitivity_is_of_every_site_and_of_this_model(dit, make_dit, tmp_path):
    config = dataclasses.replace(CONFIG, sensitivity=True, examples=0)
    assert prepare(dit, tmp_path, config, MADE) == ["calibration", "sensitivity"]
    found = Sensitivity.load(tmp_path / "results" / "sensitivity.json")
    assert found.model == fingerprint(dit.transformer)
    assert list(found.errors) == ptq4dit.Calibration.load(tmp_path / "calibration.safetensors").layers
    assert all(errors[4] > errors[8] > 0 for errors in found.errors.values())
    assert prepare(dit, tmp_path, config, MADE) == []
    assert prepare(make_dit(seed=1), tmp_path, config, MADE) == ["calibration", "sensitivity"]


def test_a_text_conditioned_model_is_prepared_with_prompts(tmp_path):
    tiny_sd3().save_pretrained(tmp_path / "sd3")
    index = tmp_path / "sd3" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | CALL["sd3"]))
    model = ptq4dit.load(tmp_path / "sd3")
    config = dataclasses.replace(CONFIG, prompts=("a cat", "a dog"))
    prepare(model, tmp_path / "sd3", config, MADE)
    assert [entry["prompt"] for entry in results(tmp_path / "sd3")["examples"]] == ["a cat", "a dog"]


def test_the_cost_is_that_of_the_steps_it_takes(dit, monkeypatch):
    from ptq4dit.prepare import run

    monkeypatch.setattr(run, "seconds_per_step", lambda model, guidance: 0.5)
    needed = seconds_needed(dit, CONFIG)
    assert needed == {"calibration": 0.5 * 2 * 6, "examples": 0.5 * 2 * (2 + 2) * (1 + 3)}
    assert set(seconds_needed(dit, dataclasses.replace(CONFIG, benchmark=True, sensitivity=True))) == {
        stage.name for stage in STAGES
    }
    monkeypatch.undo()
    assert run.seconds_per_step(dit, 4.0) > 0


def test_the_command_makes_what_the_other_commands_find(dit, tmp_path, capsys, monkeypatch):
    from diffusers import DiTPipeline

    folder = tmp_path / "tiny"
    DiTPipeline(dit.transformer, dit.vae, dit.scheduler).save_pretrained(folder)
    asked = ["--timesteps", "2", "--samples", "2", "--calibration-steps", "2", "--examples", "0"]
    asked.append("--no-sensitivity")
    assert main(["prepare", str(folder), *asked, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["made"] == ["calibration"] and "calibration about" in said.err
    monkeypatch.chdir(tmp_path)
    assert main(["quantize", str(folder), "--out", "w4"]) == 0


def test_what_cannot_be_kept_beside_the_model_is_kept_in_the_cache(tmp_path, monkeypatch):
    own, cache = tmp_path / "own", tmp_path / "cache"
    own.mkdir()
    assert home(own, cache) == own and home("owner/name", cache) == cache / "models" / "owner--name"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert home(own, cache).parent == cache / "models" and homes(own, cache)[0] == own
    monkeypatch.undo()
    file = tmp_path / "model.pt"
    file.touch()
    (kept_in,) = homes(file, cache)
    assert kept_in.parent == cache / "models" and kept_in != homes(tmp_path / "own" / ".." / "model.pt", tmp_path)[0]
    assert kept(file, "calibration.safetensors", cache) is None
    kept_in.mkdir(parents=True)
    (kept_in / "calibration.safetensors").touch()
    assert kept(file, "calibration.safetensors", cache) == kept_in / "calibration.safetensors"


@pytest.mark.parametrize("wrong", [{"examples": -1}, {"pictures": 0}, {"bits": ()}, {"guidance_scale": 0.5}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="Expected"):
        PrepareConfig(**wrong)
