"""The measurement of speed: turns, floors, memory by the system, and that whoever fails is named."""

import dataclasses
import json

import pytest
import torch

from ptq4dit.cli import main
from ptq4dit.speed import run as speed
from ptq4dit.speed.config import SpeedConfig
from ptq4dit.speed.contestants import registry
from ptq4dit.speed.exact import exact_output, relative_error
from ptq4dit.speed.floor import floors, work
from ptq4dit.speed.interleaved import ratio, summary, time_in_turn
from ptq4dit.speed.memory_probe import resident_in_a_child
from ptq4dit.speed.subject import prepare
from ptq4dit.speed.table import markdown

SMALL = {"batches": (2,), "rounds": 2, "threads": 1}


@pytest.fixture(scope="module")
def folder(dit, tmp_path_factory):
    from diffusers import DiTPipeline

    path = tmp_path_factory.mktemp("model") / "tiny"
    DiTPipeline(dit.transformer, dit.vae, dit.scheduler).save_pretrained(path)
    return str(path)


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick_machine(monkeypatch):
    peak = {"fp32_macs": 1e9, "bf16_macs": 2e9, "int8_macs": 4e9, "bytes_per_s": 1e9}
    monkeypatch.setattr(speed, "measure_machine", lambda threads: peak)


def test_calls_are_timed_in_turn():
    order = []
    seconds = time_in_turn({name: lambda name=name: order.append(name) for name in "abc"}, rounds=3)
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    assert "".join(order) == "aabbcc" + "aabbcc" * 3  # warmed up, then rewarmed and timed, each in its turn


def test_medians_quartiles_and_ratios_by_hand():
    assert summary([0.003, 0.001, 0.002]) == {"ms": 2.0, "ms_quartiles": [1.5, 2.5], "rounds": 3}
    assert summary([0.5]) == {"ms": 500.0, "ms_quartiles": [500.0, 500.0], "rounds": 1}
    assert ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])["speedup"] == 2.0


def test_work_and_floors_by_hand():
    about = {"blocks": 2, "width": 16, "tokens": 16}
    done = work(about, batch=3)
    assert done.linears == 2 * (4 + 8) * 16 * 16 * 16 * 3
    assert done.attention == 2 * 2 * 16 * 16 * 16 * 3
    machine = {"fp32_macs": 1e6, "bf16_macs": 2e6, "int8_macs": 4e6, "bytes_per_s": 1e6}
    floor = floors(about, 3, "W4A8", "rest in f32", machine)
    assert floor["operations_ms"] == pytest.approx(1e3 * (done.linears / 4e6 + done.attention / 1e6))
    assert floors(about, 3, "FP32", "", machine)["operations_ms"] > floor["operations_ms"]
    assert floor["bytes_ms"] == pytest.approx(1e3 * done.weights / 1e6)


def test_the_exact_output_is_the_models_in_float64(dit, folder, tmp_path):
    subject = prepare(SpeedConfig(source=folder, **SMALL), tmp_path)
    inputs = subject.inputs(3).cast(torch.float64)
    whole = subject.transformer().double()
    with torch.no_grad():
        expected = whole(inputs.latents, timestep=inputs.timesteps, class_labels=inputs.labels).sample
    exact = exact_output(subject, subject.inputs(3))
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact, expected, rtol=0, atol=0)
    assert relative_error(1.5 * expected, expected) == pytest.approx(0.5)


def test_blocks_shorten_a_model(folder, tmp_path):
    subject = prepare(SpeedConfig(source=folder, blocks=1, **SMALL), tmp_path)
    assert subject.about["blocks"] == 1 and subject.about["blocks_of_model"] == 2
    assert len(subject.transformer().transformer_blocks) == 1


def test_ours_on_a_tiny_model(folder, quick_machine):
    only = ("ours-w8a8", "ours-w4a8")
    config = SpeedConfig(source=folder, only=only, profile=True, images=2, steps=3, **SMALL)
    content = json.loads(json.dumps(speed.measure_speed(config, {"command": "test"})))
    results = content["contestants"]
    assert list(results) == ["torch-fp32", "ours-w8a8", "ours-w4a8"]
    for result in results.values():
        assert result["status"] == "measured", result
        numbers = result["batches"]["2"]
        assert numbers["rounds"] == 2 and numbers["ms"] > 0 and numbers["speedup"] > 0
        assert numbers["ms_per_image"] == pytest.approx(3 * numbers["ms"] + result["once_ms"], abs=0.05)
        assert result["fresh_process"]["resident_mb"] > result["fresh_process"]["own_mb"]
    error = {key: result["batches"]["2"]["error"] for key, result in results.items()}
    assert error["torch-fp32"] < 1e-5
    assert 0.01 < error["ours-w8a8"] < 0.06
    assert 1.5 < error["ours-w4a8"] / error["ours-w8a8"] < 6  # inputs are rounded as finely, weights 17 times coarser
    assert results["ours-w4a8"]["disk_bytes"] < results["ours-w8a8"]["disk_bytes"] < results["torch-fp32"]["disk_bytes"]
    assert markdown(content, 2).count("\n") == 2 + len(results)
    check_profile(results)
    check_images(content["images"])
    assert results["torch-fp32"]["execution"] == "float" and results["ours-w8a8"]["execution"] == "integer"


def check_profile(results):
    assert "profile" not in results["torch-fp32"]["batches"]["2"]
    profile = results["ours-w8a8"]["batches"]["2"]["profile"]
    assert {"product qkv", "product proj", "product fc1", "product fc2", "attention"} <= profile["kinds"].keys()
    assert profile["floor_ms"].keys() <= profile["kinds"].keys()
    floor = results["ours-w8a8"]["batches"]["2"]["floor"]["operations_ms"]
    assert sum(profile["floor_ms"].values()) == pytest.approx(floor, rel=0.01)


def check_images(images):
    drawn = images["contestants"]
    assert list(drawn) == ["torch-fp32", "ours-w8a8", "ours-w4a8"] and images["steps"] == 3
    assert list(drawn["torch-fp32"]["parts_ms"]) == ["sampling", "decode"]
    for key in ("ours-w8a8", "ours-w4a8"):
        parts = drawn[key]["parts_ms"]
        assert parts.keys() == {"conditioning", "steps", "sampler", "decode"} and min(parts.values()) > 0
    longest = sum(numbers["ms_quartiles"][1] for numbers in drawn.values())
    assert 0 < images["together_ms"] < 2 * longest


def test_what_was_built_is_kept_and_not_built_again(folder, quick_machine, monkeypatch, tmp_path):
    built = []
    half = registry.ALL["torch-bf16"]
    counted = dataclasses.replace(half, build=lambda *given: (built.append(given), half.build(*given)))
    monkeypatch.setattr(registry, "ALL", {"torch-fp32": registry.BASELINE, "torch-bf16": counted})
    monkeypatch.setattr(speed, "resident_in_a_child", lambda *_: {"own_mb": 1.0})
    config = SpeedConfig(source=folder, keep=str(tmp_path / "kept"), **SMALL)
    first, second = (speed.measure_speed(config, {})["contestants"]["torch-bf16"] for _ in range(2))
    assert len(built) == 1 and first["build_s"] == second["build_s"] and second["status"] == "measured"
    assert first["batches"]["2"]["error"] == second["batches"]["2"]["error"]
    with pytest.raises(ValueError, match="empty or made for"):
        speed.measure_speed(dataclasses.replace(config, seed=7), {})


@pytest.mark.parametrize("together", [True, False])
def test_who_fails_or_is_absent_is_named_and_the_others_go_on(folder, quick_machine, monkeypatch, together):
    def breaks(subject, folder, threads):
        raise RuntimeError("no such kernel\nand a long story")

    half = registry.ALL["torch-bf16"]
    broken = dataclasses.replace(half, key="broken", load=breaks)
    absent = dataclasses.replace(half, key="absent", imports=("a_package_that_is_not_here",))
    monkeypatch.setattr(registry, "ALL", {"torch-fp32": registry.BASELINE, "broken": broken, "absent": absent})
    monkeypatch.setattr(speed, "resident_in_a_child", lambda *_: {"own_mb": 1.0})
    content = speed.measure_speed(SpeedConfig(source=folder, together=together, **SMALL), {})
    results = content["contestants"]
    assert results["broken"]["status"] == "failed"
    assert results["broken"]["reason"] == "load: RuntimeError: no such kernel"
    assert results["absent"]["status"] == "skipped"
    assert results["absent"]["reason"] == "not installed: a_package_that_is_not_here"
    assert results["torch-fp32"]["batches"]["2"]["ms"] > 0
    assert "failed: load: RuntimeError" in markdown(content, 2)


def test_a_child_that_dies_says_why(tmp_path):
    assert "KeyError" in resident_in_a_child("nobody", tmp_path, tmp_path, 2, 1)["error"]


def test_bad_requests_are_sentences(folder, capsys):
    assert main(["bench", folder, "--only", "nobody"]) == 2
    assert "Expected contestants among" in capsys.readouterr().err
    assert main(["bench", folder, "--rounds", "0"]) == 2
    assert "rounds of at least 1" in capsys.readouterr().err
