import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

import ptq4dit
from ptq4dit.cli import COMMANDS, build_parser, main, source
from ptq4dit.cli.options import quantization
from ptq4dit.cli.progress import Bar


@pytest.fixture(scope="module")
def model(dit, tmp_path_factory):
    """A tiny float model's folder with its own calibration."""
    from diffusers import DiTPipeline

    path = tmp_path_factory.mktemp("models") / "tiny"
    DiTPipeline(dit.transformer, dit.vae, dit.scheduler).save_pretrained(path)
    file = path / "calibration.safetensors"
    assert run("calibrate", path, "--out", file, "--timesteps", 2, "--samples", 4, "--steps", 3) == 0
    return path


@pytest.fixture(scope="module")
def quantized(model):
    folder = model.parent / "w4a8"
    assert run("quantize", model, "--out", folder, "--weight-bits", 4, "--no-ssc") == 0
    return folder


def run(*arguments):
    return main([str(argument) for argument in arguments])


def result(capsys, *arguments):
    """What a command prints with --json."""
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_from_float_model_to_quantized_pictures(model, tmp_path, capsys):
    stats, folder, picture = tmp_path / "c.safetensors", tmp_path / "w4a8", tmp_path / "row.png"
    seen = result(capsys, "calibrate", model, "--out", stats, "--timesteps", 2, "--samples", 2, "--steps", 3)
    assert seen["file"] == str(stats) and (seen["layers"], seen["timesteps"], seen["samples"]) == (8, 2, 2)
    made = result(
        capsys, "quantize", model, "--calibration", stats, "--out", folder, "--weight-bits", 4, "--modulation"
    )
    assert (made["label"], made["backend"]) == ("W4A8", "simulated") and 0.1 < made["share_of_float32"] < 0.9
    drawn = result(capsys, "sample", folder, "--out", picture, "--classes", 1, 3, 0, "--steps", 2)
    assert drawn["classes"] == ["class 1", "class 3", "class 0"] and drawn["backend"] == "simulated"
    assert Image.open(picture).size == (48, 16)
    about = result(capsys, "info", folder)
    assert about["label"] == "W4A8" and about["config"]["modulation"] is True and about["classes"]["3"] == "class 3"


def test_what_the_paper_quantizes_can_be_asked_for(model, tmp_path, capsys):
    every = ("--balance-fc2", "--patch-embed", "--conditioning", "--modulation", "--final-layer", "--attention-bits", 8)
    more = ("--softmax-bits", 8, "--activation-range", "percentile", "--adaround", "--reconstruction-steps", 2)
    made = result(capsys, "quantize", model, "--out", tmp_path / "a", *every, *more, "--state", tmp_path / "state")
    config = ptq4dit.load_quantized(made["folder"]).transformer.ptq4dit_record.config
    assert config.balance_fc2 and config.patch_embed and config.final_layer
    assert (config.attention_bits, config.softmax_bits) == (8, 8)
    assert (config.reconstruction.start, config.reconstruction.steps) == ("nearest", 2)
    assert (
        len(list((tmp_path / "state").glob("data-*"))) == 1 and len(list((tmp_path / "state").glob("*-block-*"))) == 2
    )
    other = result(
        capsys, "quantize", model, "--out", tmp_path / "b", "--method", "smoothquant", "--option", "alpha=0.25"
    )
    assert ptq4dit.load_quantized(other["folder"]).transformer.ptq4dit_record.config.option("alpha", None) == 0.25
    whole = result(capsys, "quantize", model, "--out", tmp_path / "c", "--backend", "integer")
    assert whole["backend"] == "integer" and result(capsys, "info", tmp_path / "c")["blocks"] == 2


def test_every_setting_has_an_option(capsys):
    """Each is given another value than its own; what a method or another option sets is apart."""
    given = "--weight-bits 4 --activation-bits 6 --no-ssc --timestep-salience mean --method gptq --option alpha=0.5 "
    given += "--weight-range minmax --activation-range mse --weight-symmetric --activation-symmetric --group-size 64 "
    given += "--activation-granularity per_timestep_group --timestep-groups 3 --no-balance-inputs --rotation --rank 8 "
    given += "--patch-embed --conditioning --modulation --final-layer --attention-bits 8 --softmax-bits 8 --adaround "
    given += "--override *.fc2:weight_bits=8,group_size=32 --override blocks.0.*:activation_symmetric=false"
    config = quantization(build_parser().parse_args(["quantize", *given.split()]), seed=0)
    usual = ptq4dit.QuantConfig()
    same = {name for name, value in vars(config).items() if value == vars(usual)[name]}
    assert same == {"csb", "activation_group_size", "backend"}  # the first and the second exclude others of these
    fc2, first = config.layer("blocks.3.fc2"), config.layer("blocks.0.qkv")
    assert (fc2.weight_bits, fc2.group_size, first.weight_bits) == (8, 32, 4)
    assert fc2.activation_symmetric and not first.activation_symmetric
    assert (config.timestep_groups, config.rank, config.rotation) == (3, 8, True)
    for wrong in ("*.fc2", "*.fc2:bits=4", "*:weight_bits=four"):
        with pytest.raises(SystemExit):
            build_parser().parse_args(["quantize", "--override", wrong])
        assert "expected a pattern and settings (weight_bits, activation_bits" in capsys.readouterr().err


def test_fails_before_the_work_that_would_be_lost(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ptq4dit.quantize", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("ptq4dit.calibration.parts.calibrate", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("ptq4dit.denoise", lambda *_, **__: 1 / 0)
    (tmp_path / "mine.txt").write_text("mine")
    for command, out, message in (
        ("quantize", tmp_path, "holds other files"),
        ("calibrate", tmp_path / "none" / "c.safetensors", "Make it first"),
        ("calibrate", tmp_path, "which is a folder"),
        ("calibrate", "/dev/null", "no ordinary file"),
        ("sample", tmp_path / "none" / "x.png", "Make it first"),
        ("sample", tmp_path, "which is a folder"),
        ("speed", "/proc/x.json", "folder that can be written"),
        ("benchmark", "/proc/none/x.json", "folder that can be written"),
    ):
        assert run(command, model, "--out", out) == 2
        assert message in capsys.readouterr().err
    assert run("quantize", model, "--out", tmp_path / "d", "--state", "/proc/state") == 2
    assert "folder that can be written" in capsys.readouterr().err
    assert run("quantize", model, "--out", tmp_path / "d", "--reconstruction-steps", 3) == 2
    assert "Expected --reconstruct or --adaround" in capsys.readouterr().err


def test_text_says_the_same_and_progress_goes_to_stderr(model, tmp_path, capsys):
    assert run("sample", model, "--out", tmp_path / "x.png", "--classes", 2, "--steps", 2) == 0
    printed = capsys.readouterr()
    assert "label:" in printed.out and "FP" in printed.out and "step" not in printed.out.replace("steps:", "")
    assert "step 2 of 2" in printed.err


def test_seed_decides_the_pictures(quantized, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("sample", quantized, "--out", tmp_path / name, "--classes", 0, "--steps", 2, "--seed", seed) == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_evaluate_a_checkpoint_against_its_float_model(model, quantized, capsys):
    found = result(capsys, "evaluate", quantized, "--reference", model, "--pictures", 5, "--steps", 2)
    assert found["label"] == "W4A8" and found["backend"] == "simulated"
    assert 5 < found["metrics"]["psnr"] < 100 and len(found["metrics"]["drift_by_step"]) == 2
    again = result(capsys, "evaluate", quantized, "--pictures", 5, "--steps", 2)
    assert again["metrics"] == found["metrics"], "the checkpoint knows where it came from"


def test_evaluate_quantizes_a_float_model_first(model, capsys):
    few = ("evaluate", model, "--pictures", 5, "--steps", 2)
    fine, coarse = result(capsys, *few), result(capsys, *few, "--weight-bits", 2)
    assert (fine["label"], coarse["label"]) == ("W8A8", "W2A8")
    assert fine["metrics"]["psnr"] > coarse["metrics"]["psnr"]


def test_evaluate_refuses_another_reference(quantized, make_dit, tmp_path, capsys):
    from diffusers import DiTPipeline

    other = make_dit(seed=1)
    DiTPipeline(other.transformer, other.vae, other.scheduler).save_pretrained(tmp_path / "other")
    assert run("evaluate", quantized, "--reference", tmp_path / "other") == 2
    assert "has other weights" in capsys.readouterr().err


def test_benchmark_writes_its_file_and_goes_on(model, tmp_path, capsys):
    out = tmp_path / "benchmark.json"
    few = ("--pictures", 5, "--steps", 2, "--seeds", 1, 2, "--strengths", 1, "--bits", "W8A8", "--no-factorial")
    command = ("benchmark", model, "--out", out, *few, "--methods", "rtn")
    content = result(capsys, *command)
    assert content == json.loads(out.read_text()) and list(content["results"]) == ["x1/W8A8/rtn"]
    assert run(*command, "dynamic") == 0
    printed = capsys.readouterr()
    assert "W8A8, salience x 1, simulated" in printed.out and "1 of 2: x1/W8A8/dynamic" in printed.err
    after = json.loads(out.read_text())["results"]
    assert (
        list(after) == ["x1/W8A8/rtn", "x1/W8A8/dynamic"]
        and after["x1/W8A8/rtn"] == content["results"][next(iter(after))]
    )


def test_a_budget_of_bytes_is_spent_where_it_shows(model, tmp_path, capsys):
    file, folder = tmp_path / "s.json", tmp_path / "mixed"
    found = result(capsys, "sensitivity", model, "--out", file, "--samples", 2, "--weight-range", "minmax")
    assert found["sites"] == 8 and file.is_file() and len(found["most_sensitive_at_4_bits"]) == 5
    stored = json.loads(file.read_text())
    assert stored["made"]["model_fingerprint"] == stored["model"] and stored["made"]["commit"]
    assert stored["settings"] == {"activation_bits": 8, "csb": True, "ssc": True, "strength": 1}
    budget = (found["least_bytes"] + found["most_bytes"]) // 2
    made = result(capsys, "quantize", model, "--out", folder, "--budget", budget, "--sensitivity", file)
    assert found["least_bytes"] < made["bytes"] <= budget
    bits = {own["weight_bits"] for own in result(capsys, "info", folder)["config"]["overrides"]}
    assert bits in ({4}, {8})
    assert run("quantize", model, "--out", tmp_path / "b", "--budget", budget) == 2
    assert "Expected --sensitivity with --budget" in capsys.readouterr().err
    text = json.loads(file.read_text()) | {"model": "another"}
    file.write_text(json.dumps(text))
    assert run("quantize", model, "--out", tmp_path / "b", "--budget", budget, "--sensitivity", file) == 2
    assert "Measure this model's" in capsys.readouterr().err


def test_scales_for_every_token_on_integers(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PTQ4DIT_CACHE", str(tmp_path / "cache"))
    asked = ("--activation-granularity", "per_token", "--activation-symmetric", "--backend", "integer")
    made = result(capsys, "quantize", model, "--out", tmp_path / "tokens", "--weight-bits", 4, *asked)
    assert made["backend"] == "integer"
    assert result(capsys, "info", tmp_path / "tokens")["config"]["activation_symmetric"] is True


def test_everything_has_a_default_that_works_from_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert result(capsys, "info")["label"] == "FP"
    made = result(capsys, "quantize", "--weight-range", "minmax")
    assert made["folder"] == "demo-w8a8" and (tmp_path / "demo-w8a8" / "manifest.json").is_file()
    assert result(capsys, "sample", "demo-w8a8", "--classes", 4, "--steps", 1)["file"] == "demo-w8a8.png"
    assert Image.open("demo-w8a8.png").size == (64, 64)
    for name in COMMANDS:
        assert build_parser().parse_args([name]).model is None
    monkeypatch.chdir(source.DEMO.parents[1])
    assert source.demo_path() == "assets/demo"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "{model}", "--classes", "77"), "from 0 to 4, got 77"),
        (("sample", "{model}", "--device", "abacus"), "a device that torch can use here, got 'abacus'"),
        (("sample", "{model}", "--out", "{model}/no/such/folder.png", "--steps", "1"), "Make it first"),
        (("sample", "{model}", "--seed", "-1"), "seed of at least 0, got -1"),
        (("quantize", "{model}", "--calibration", "none.safetensors"), "does not exist"),
        (("quantize", "{model}", "--out", "{model}"), "holds other files"),
        (("quantize", "{model}", "--weight-bits", "9"), "weight_bits to be 2 to 8, or 16 to leave it in float, got 9"),
        (("quantize", "{model}", "--group-size", "5"), "a group_size that divides 16 input channels, got 5"),
        (("quantize", "{model}", "--no-csb"), "ssc=True has nothing to act on"),
        (("quantize", "{quantized}"), "which is quantized already. Name the one that it was made from"),
        (("calibrate", "{model}", "--timesteps", "0"), "timesteps to be an integer of at least 1"),
        (("calibrate", "{model}/vae"), "Expected a diffusers pipeline folder with model_index.json"),
        (("evaluate", "{quantized}", "--pictures", "2"), "at least 5 pictures"),
        (("benchmark", "{model}", "--bits", "4/8"), "Expected bits such as W4A8, got '4/8'"),
        (("benchmark", "{model}", "--methods", "magic"), "Unknown methods ['magic']"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(model, quantized, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run(*(argument.format(model=model, quantized=quantized) for argument in arguments)) == 2
    error = capsys.readouterr().err
    said = [line for line in error.splitlines() if line.startswith(f"ptq4dit {arguments[0]}: ")]
    assert len(said) == 1 and message in said[0] and "Traceback" not in error
    assert not any(tmp_path.iterdir()), "nothing is left behind"


def test_a_disk_without_room_is_said_before_the_work(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ptq4dit.quantize", lambda *_, **__: 1 / 0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    assert run("quantize", model, "--out", tmp_path / "new" / "model") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("ptq4dit quantize: Expected room for about 1 MB in") and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stdout", "stderr", "status"), [("/dev/full", "pipe", 2), ("closed", "pipe", 2), ("pipe", "closed", 0)]
)
def test_nobody_listens(stdout, stderr, status):
    """A full or closed stdout is one sentence; a closed stderr is no reason to fail."""
    code = (
        "import os, sys; from ptq4dit.cli import main, info\n"
        "from ptq4dit.cli.progress import Bar; from ptq4dit.cli.report import Report\n"
        "def run(options): Bar('step')(1, 1); return Report(content={}, text='done')\n"
        "info.run = run; sys.exit(main(['info']))"
    )
    redirect = {"closed": "{}>&-", "/dev/full": "{}>/dev/full", "pipe": ""}
    shell = f'"$0" -c "$1" {redirect[stdout].format(1)} {redirect[stderr].format(2)}'
    made = subprocess.run(["sh", "-c", shell, sys.executable, code], capture_output=True, text=True)
    assert made.returncode == status, made.stderr
    if status:
        said = [line for line in made.stderr.splitlines() if line.startswith("ptq4dit info: Expected a stdout")]
        assert len(said) == 1 and "Traceback" not in made.stderr and "Exception" not in made.stderr
    else:
        assert made.stdout == "done\n"


def test_unknown_options_end_with_status_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        run("quantize", "--method", "magic")
    assert "invalid choice: 'magic'" in capsys.readouterr().err


def test_what_a_command_does_not_know_is_told_with_what_is_near(capsys):
    with pytest.raises(SystemExit, match="2"):
        run("quantize", "--wieght-bits", 4)
    told = capsys.readouterr().err
    assert "unrecognized argument --wieght-bits; did you mean --weight-bits?" in told
    assert told.startswith("usage: python -m ptq4dit quantize")
    with pytest.raises(SystemExit, match="0"):
        run("--version")
    assert capsys.readouterr().out == f"ptq4dit {ptq4dit.__version__}\n"


def test_a_folder_without_a_float_model_is_told_before_its_calibration_is_asked_for(tmp_path, capsys):
    assert run("quantize", tmp_path) == 2
    assert "Expected a diffusers pipeline folder with model_index.json" in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text("{}")
    assert run("quantize", tmp_path) == 2
    assert "which is quantized already. Name the one that it was made from." in capsys.readouterr().err


def test_a_missing_demo_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(source, "DEMO", tmp_path / "demo")
    assert run("info") == 2
    assert "Expected the demo model in" in capsys.readouterr().err


def test_interrupted(model, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ptq4dit.calibration.parts.calibrate", interrupt)
    assert run("calibrate", model, "--out", tmp_path / "c.safetensors") == 130
    assert "interrupted" in capsys.readouterr().err and not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_one_page(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        run(name, "--help")
    page = capsys.readouterr().out
    assert len(page.splitlines()) < 96 and "--json" in page and "Exit status" in page


def test_runs_as_a_module_and_help_does_not_wait_for_torch():
    code = "import sys, ptq4dit.cli as cli; cli.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    command = [sys.executable, "-m", "ptq4dit", "--help"]
    assert "calibrate" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


ROWS = ("--bits", "W8A8", "--strengths", 1, "--no-factorial", "--pictures", 5, "--seeds", 1, "--steps", 2)
LEARNED = ("--reconstruct", "--reconstruction-steps", 3)


@pytest.mark.parametrize(
    ("command", "units"),
    [
        (("quantize", "--method", "rtn", "--no-csb", "--no-ssc", "--out", "{tmp}/q"), 1),
        (("quantize", *LEARNED, "--out", "{tmp}/q"), 2),
        (("sensitivity", "--bits", 4, "--out", "{tmp}/s.json"), 8),
        (("prepare", "--cache", "{tmp}", "--steps", 2, "--calibration-steps", 2, "--timesteps", 2), 3),
        (
            ("benchmark", "--methods", "rtn", "dynamic", *ROWS, "--out", "{tmp}/b.json"),
            2,
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_the_price_comes_before_the_work(model, tmp_path, capsys, command, units):
    """Time, memory and disk by the first unit, and nothing else is done."""
    asked = [str(one).format(tmp=tmp_path) for one in command]
    cost = result(capsys, asked[0], model, *asked[1:], "--dry-run")
    assert cost["parts"] == units and cost["seconds_left"] > 0 and cost["memory_mb_each"] > 100
    assert cost["disk_mb"] > 0 or command[0] in ("sensitivity", "benchmark", "prepare")
    assert not (tmp_path / "q").exists() and not (tmp_path / "s.json").exists()
    if "--reconstruct" in asked:  # what was sampled to know it is used
        assert cost["seconds_a_block"] > 0 and cost["seconds_a_gradient_step"] > 0
        made = result(capsys, asked[0], model, *asked[1:])
        assert made["label"] == "W8A8" and not list(tmp_path.glob("*.parts"))


def test_one_bar_says_pace_and_time_left(monkeypatch, capsys):
    clock = iter([0.0, 2.0, 4.0, 20.0])
    monkeypatch.setattr("ptq4dit.cli.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    bar = Bar("row", disk=5_000_000)
    for done in (0, 1, 2, 10):
        bar(done, 10)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "row 0 of 10"
    assert said[1].startswith("10 rows: about 18 s from now, ") and said[1].endswith(", 5.0 MB on disk.")
    assert said[2:] == [
        "row 1 of 10, 2.0 s each, about 18 s left",
        "row 2 of 10, 2.0 s each, about 16 s left",
        "row 10 of 10",
    ]
