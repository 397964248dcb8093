import dataclasses
import json
import math

import pytest
import torch

from ptq4dit.backends.options import IntegerOptions
from ptq4dit.benchmark.config import PTQ4DIT_VARIANTS, BenchmarkConfig
from ptq4dit.benchmark.cost import CostMeter
from ptq4dit.benchmark.measure import Judge, compare, draw
from ptq4dit.benchmark.run import add_costs, benchmark, command_as_typed
from ptq4dit.benchmark.table import adds, markdown
from ptq4dit.calibration.run import Cancelled, calibrate
from ptq4dit.checkpoint.packed import packed_bytes, save_quantized
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.methods.registry import quantize
from ptq4dit.metrics.classifier import SceneClassifier
from ptq4dit.sampling.denoise import generate

CONFIG = BenchmarkConfig(
    methods=("rtn", "ptq4dit"),
    bits=((4, 8),),
    strengths=(1, 4),
    seeds=(1, 2, 3),
    pictures=5,
    steps=2,
    factorial_bits=(),
    reconstruction=ReconstructionConfig(steps=0, images=4, timesteps=2, held_out=0.25),
)


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CalibrationConfig(timesteps=3, samples_per_timestep=4, steps=4))


@pytest.fixture(scope="module")
def judged():
    torch.manual_seed(0)
    return Judge(classifier=SceneClassifier(5).eval(), pooled=torch.randn(20, 128), spatial=torch.randn(20, 112))


def test_sets_are_the_pictures_that_generate_makes(dit):
    drawn = draw(dit, CONFIG, 7)
    torch.testing.assert_close(drawn.pictures, generate(dit, [0, 1, 2, 3, 4], steps=2, seed=7))
    assert drawn.latents.shape == (2, 5, 4, 8, 8)
    numbers = compare(drawn, drawn, None)
    assert numbers["psnr"] == 100 and numbers["drift"] == 0 and numbers["ssim"] == pytest.approx(1)


def test_measures_all_jobs_once_and_goes_on_where_it_stopped(dit, stats, judged, tmp_path):
    out, seen = tmp_path / "results" / "benchmark.json", []

    def run(**more):
        return benchmark(
            dit, stats, CONFIG, out, {"command": "x"}, judged=judged, progress=lambda k, *_: seen.append(k), **more
        )

    calls = []
    with pytest.raises(Cancelled):
        run(cancelled=lambda: calls.append(0) or len(calls) > 20)
    part = json.loads(out.read_text())["results"] if out.exists() else {}
    content = run()
    assert list(content["results"]) == ["x1/W4A8/rtn", "x1/W4A8/ptq4dit", "x4/W4A8/rtn", "x4/W4A8/ptq4dit"]
    assert all(content["results"][key] == numbers for key, numbers in part.items())
    assert json.loads(out.read_text()) == content and content["made"]["backend"] == "simulated"
    metrics = content["results"]["x1/W4A8/rtn"]["metrics"]
    assert set(metrics) >= {"psnr", "ssim", "drift", "frechet", "spatial_frechet", "precision", "class_accuracy"}
    assert metrics["psnr"]["low"] <= metrics["psnr"]["mean"] <= metrics["psnr"]["high"]
    assert len(content["results"]["x1/W4A8/rtn"]["psnr_each"]) == 15
    table = markdown(content, 1, "W4A8")
    assert (
        len(table.splitlines()) == 4 and "Round to nearest" in table and "±" in table and " to +" in table
    ) or " to -" in table
    assert markdown(content, 1, "W8A8") == ""


def test_numbers_equal_those_made_by_hand(dit, stats, tmp_path):
    """The benchmark's PSNR of round-to-nearest is that of pictures drawn through the public functions."""
    one = dataclasses.replace(CONFIG, methods=("rtn",), strengths=(1,), seeds=(3,))
    content = benchmark(dit, stats, one, tmp_path / "b.json", {})
    model = quantize(dit, stats, QuantConfig(method="rtn", weight_bits=4))
    a, b = (generate(m, [0, 1, 2, 3, 4], steps=2, seed=3) for m in (model, dit))
    expected = -10 * math.log10(1.0) + float((-10 * torch.log10((a - b).square().mean((1, 2, 3)))).mean())
    assert content["results"]["x1/W4A8/rtn"]["metrics"]["psnr"]["mean"] == pytest.approx(expected, abs=1e-2)


def test_factorial_has_twelve_cells_and_differs_in_one_thing_at_a_time():
    config = dataclasses.replace(CONFIG, methods=(), factorial_bits=((4, 8),), strengths=(1,))
    jobs = config.jobs()
    assert len(jobs) == len(PTQ4DIT_VARIANTS) == 12 and len({c for _, _, c in jobs}) == 12
    assert {c.activation_granularity for _, _, c in jobs} == {"per_tensor", "per_token"}


def test_bytes_are_those_on_disk(dit, stats, tmp_path):
    model = quantize(dit, stats, QuantConfig(weight_bits=4))
    save_quantized(model, tmp_path / "m")
    on_disk = (tmp_path / "m" / "transformer" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert packed_bytes(model) <= on_disk <= packed_bytes(model) + 60_000


def test_a_set_is_drawn_a_few_pictures_at_a_time(dit, monkeypatch):
    whole = draw(dit, CONFIG, 7)
    monkeypatch.setattr("ptq4dit.benchmark.measure.BATCH", 2)
    parts = draw(dit, CONFIG, 7)
    torch.testing.assert_close(parts.pictures, whole.pictures)
    torch.testing.assert_close(parts.latents, whole.latents)


def test_keeps_results_that_were_measured_otherwise(dit, stats, tmp_path):
    """Whatever is asked next, what a file holds stays; other methods join those in it and keep their titles."""
    out = tmp_path / "b.json"
    one = dataclasses.replace(CONFIG, methods=("rtn",), strengths=(1,), seeds=(3,))
    benchmark(dit, stats, one, out, {"commit": "abc"})
    held = out.read_text()
    for change in ({"pictures": 6}, {"seeds": (4,)}, {"guidance_scale": 2.0}):
        with pytest.raises(ValueError, match=f"Expected {next(iter(change))} to be .* as of the results in"):
            benchmark(dit, stats, dataclasses.replace(one, **change), out, {})
    with pytest.raises(ValueError, match="model_fingerprint"):
        benchmark(dit, dataclasses.replace(stats, model="other"), one, out, {})
    assert out.read_text() == held
    both = benchmark(dit, stats, dataclasses.replace(one, methods=("dynamic",)), out, {"commit": "def"})
    assert {key: row["commit"] for key, row in both["results"].items()} == {
        "x1/W4A8/rtn": "abc",
        "x1/W4A8/dynamic": "def",
    }
    assert "Round to nearest" in markdown(both, 1, "W4A8") and "Dynamic" in markdown(both, 1, "W4A8")
    for text, message in (("{", "damaged"), ("[]", "something else")):
        out.write_text(text)
        with pytest.raises(ValueError, match=message):
            benchmark(dit, stats, one, out, {})


def test_two_benchmarks_into_one_file_lose_nothing(dit, stats, tmp_path):
    """While one measures its second model, another one starts and ends on the same file, and its costs are measured."""
    out, small = tmp_path / "benchmark.json", dataclasses.replace(CONFIG, strengths=(1,), seeds=(1,))

    def meanwhile(_key, done, _total):
        if done == 1:
            other = dataclasses.replace(small, methods=("dynamic",))
            benchmark(dit, stats, other, out, {})
            add_costs(out, lambda *asked: {"refused": asked[0]}, other, {"command": "costs"})

    content = benchmark(dit, stats, small, out, {}, progress=meanwhile)
    held, names = json.loads(out.read_text()), {"rtn", "dynamic", "ptq4dit"}
    assert held == content and set(held["results"]) == {f"x1/W4A8/{name}" for name in names}
    assert set(held["methods"]) == names and held["methods"]["dynamic"]["title"]
    assert held["costs"] == {"W4A8/dynamic": {"refused": "dynamic"}} and held["costs_made"] == {"command": "costs"}


def test_costs_lose_no_row_that_is_measured_meanwhile(dit, stats, tmp_path):
    out, config = tmp_path / "b.json", dataclasses.replace(CONFIG, methods=("rtn",), strengths=(1,), seeds=(1,))
    benchmark(dit, stats, config, out, {})

    def cost(*asked):
        held = json.loads(out.read_text())
        held["results"]["x1/W4A8/gptq"], held["costs"] = {"of": "another"}, {"W4A8/gptq": {"of": "another"}}
        out.write_text(json.dumps(held))
        return {"refused": asked[0]}

    content = add_costs(out, cost, config, {})
    assert json.loads(out.read_text()) == content and set(content["results"]) == {"x1/W4A8/rtn", "x1/W4A8/gptq"}
    assert set(content["costs"]) == {"W4A8/rtn", "W4A8/gptq"}


def test_command_and_refusals(monkeypatch):
    assert command_as_typed() == "python -m ptq4dit benchmark"
    monkeypatch.setattr("sys.argv", ["x/ptq4dit/__main__.py", "benchmark", "--bits", "W4A8"])
    assert command_as_typed() == "python -m ptq4dit benchmark --bits W4A8"
    with pytest.raises(ValueError, match="Unknown methods"):
        BenchmarkConfig(methods=("magic",))
    with pytest.raises(ValueError, match="at least 5 pictures"):
        BenchmarkConfig(pictures=1)


def test_what_a_method_adds_is_measured_where_integers_run(dit, stats, tmp_path):
    options = IntegerOptions(cache=tmp_path / "cache", threads=1)
    meter = CostMeter(dit, stats, rows=2, rounds=5, options=options)
    dynamic, rotated = meter.cost("dynamic", 4, 8), meter.cost("hadamard", 4, 8)
    assert dynamic["ms"] > 0 and dynamic["rounds"] == 5 and "every token" in dynamic["runtime"]
    low, high = dynamic["added_ms_quartiles"]
    assert low <= dynamic["added_ms"] <= high and list(rotated) == ["refused"]
    assert "rotation at run time" in rotated["refused"]


def test_a_slower_model_adds_what_it_takes_longer(dit, stats, tmp_path, monkeypatch):
    def pretended(calls, rounds):
        return {"static": [0.010, 0.020, 0.030][:rounds], "method": [0.012, 0.023, 0.031][:rounds]}

    monkeypatch.setattr("ptq4dit.benchmark.cost.time_in_turn", pretended)
    meter = CostMeter(dit, stats, rounds=3, options=IntegerOptions(cache=tmp_path, threads=1))
    cost = meter.cost("rtn", 8, 8)
    assert (cost["added_ms"], cost["static_ms"], cost["added_ms_quartiles"]) == (2.0, 20.0, [1.5, 2.5])


def test_costs_stand_beside_the_results_and_stay(dit, stats, tmp_path):
    asked = []

    def cost(*what):
        asked.append(what)
        return {"added_ms": -0.5, "static_ms": 10.0} if what[0] == "rtn" else {"refused": "it cannot"}

    out, config = tmp_path / "b.json", dataclasses.replace(CONFIG, strengths=(1,))
    with pytest.raises(ValueError, match="Expected a benchmark in"):
        add_costs(out, cost, config, {})
    benchmark(dit, stats, config, out, {"command": "x"})
    content = add_costs(out, cost, config, {"command": "costs"})
    assert asked == [("rtn", 4, 8), ("ptq4dit", 4, 8)]
    assert benchmark(dit, stats, config, out, {"command": "y"})["costs"] == content["costs"]
    add_costs(out, cost, config, {})
    assert len(asked) == 2
    assert adds(content, "W4A8", "rtn") == "-0.50 ms (-5%)"
    assert adds(content, "W4A8", "ptq4dit") == content["methods"]["ptq4dit"]["inference"]
    head, _, first, *_ = markdown(content, 1, "W4A8").splitlines()
    assert head.endswith("| adds to a forward pass |") and first.endswith("| -0.50 ms (-5%) |")
