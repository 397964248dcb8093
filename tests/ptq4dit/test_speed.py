"""The measurement of speed: turns, floors, memory by the system, and that whoever fails is named."""

import dataclasses
import json
import sys
import time

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops

import ptq4dit
from ptq4dit.cli import main
from ptq4dit.sampling.denoise import make_scheduler
from ptq4dit.speed import run as speed
from ptq4dit.speed.config import SpeedConfig
from ptq4dit.speed.contestants import openvino_float, registry, torch_float
from ptq4dit.speed.exact import exact_output, relative_error
from ptq4dit.speed.floor import floors, work
from ptq4dit.speed.interleaved import ratio, summary, time_in_turn
from ptq4dit.speed.memory_probe import resident_in_a_child
from ptq4dit.speed.quality import Judge
from ptq4dit.speed.subject import Inputs, prepare
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


def test_processor_time_leaves_waiting_out():
    calls = {"waits": lambda: time.sleep(0.05)}
    assert time_in_turn(calls, 1, time.process_time)["waits"][0] < 0.04 < time_in_turn(calls, 1)["waits"][0]


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


@pytest.mark.parametrize("key", ["quanto", "sdnq"])
def test_rivals_that_are_not_installed_are_skipped_by_name(key, monkeypatch):
    assert registry.chosen((key,)) == [registry.BASELINE, registry.ALL[key]]
    for name in ("optimum", "sdnq"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [])
    sys.path_importer_cache.clear()
    assert registry.ALL[key].missing() == list(registry.ALL[key].imports)


def test_quality_is_told_on_the_models_own_inputs_and_in_pictures(folder, quick_machine, monkeypatch):
    def load(subject, folder, threads):
        halved = subject.transformer().to(torch.bfloat16).float()
        return torch_float.calls(torch_float.Plain(halved))

    half = dataclasses.replace(registry.BASELINE, key="rounded", load=load)
    monkeypatch.setattr(registry, "ALL", {"torch-fp32": registry.BASELINE, "rounded": half})
    monkeypatch.setattr(speed, "resident_in_a_child", lambda *_: {"own_mb": 1.0})
    config = SpeedConfig(source=folder, pictures=3, steps=3, **SMALL)
    results = (content := speed.measure_speed(config, {}))["contestants"]
    plain, rounded = results["torch-fp32"], results["rounded"]
    assert plain["status"] == rounded["status"] == "measured", rounded["reason"]
    assert plain["own_error"] < 1e-5 < 1e-4 < rounded["own_error"] < 0.2
    assert "psnr" not in plain and 10 < rounded["psnr"]["low"] <= rounded["psnr"]["mean"] <= rounded["psnr"]["high"]
    head, _, first, second = markdown(content, 2).splitlines()
    assert head.endswith("| error, own inputs | PSNR, dB |")
    assert first.endswith("|  |") and f"| {rounded['psnr']['mean']:.1f} (" in second
    assert len({line.count("|") for line in (head, first, second)}) == 1


def test_own_inputs_are_what_the_model_meets_while_it_draws(dit, folder, tmp_path):
    config = SpeedConfig(source=folder, steps=4, **SMALL)
    subject = prepare(config, tmp_path / "whole")
    own = subject.own_inputs()
    assert own.timesteps.unique().tolist() == sorted(make_scheduler(dit, 4, None).timesteps.tolist())
    assert len(own.labels) == 4 * 2 * 2 and (own.labels == dit.null_class).sum() == 8
    assert [len(part.labels) for part in own.split(6)] == [6, 6, 4]
    short = prepare(dataclasses.replace(config, blocks=1), tmp_path / "short")
    assert short.own_inputs() is None
    with pytest.raises(ValueError, match="whole trained model for pictures"):
        speed.measure_speed(dataclasses.replace(config, blocks=1, pictures=1), {})


def test_pictures_are_the_samplers_own(dit, folder, tmp_path):
    config = SpeedConfig(source=folder, steps=2, pictures=3, **SMALL)
    subject = prepare(config, tmp_path)
    loaded = registry.BASELINE.load(subject, tmp_path, 1)
    drawn = Judge(config, subject)._pictures(loaded)
    expected = ptq4dit.generate(dit, [0, 1, 2], 2, config.guidance_scale, config.seed)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-4)


def test_openvino_compiles_once_for_every_number_of_rows(tmp_path):
    latents = ops.parameter([-1, 1, 2, 2], np.float32)
    timestep, label = (ops.parameter([-1], np.int64) for _ in range(2))
    for node, name in zip((latents, timestep, label), openvino_float.NAMES, strict=True):
        node.output(0).set_names({name})
    rows = ops.convert(ops.unsqueeze(ops.add(timestep, label), [1, 2, 3]), "f32")
    total = ops.add(latents, rows)
    openvino.save_model(openvino.Model([total], [latents, timestep, label], "sum"), tmp_path / "model.xml")
    loaded = openvino_float._load(tmp_path, 1, "f32")

    def given(value):
        return Inputs(
            latents=torch.full((2, 1, 2, 2), value), timesteps=torch.tensor([1, 1]), labels=torch.tensor([0, 0])
        )

    first = loaded.bind(given(2.0))
    (tmp_path / "model.xml").unlink()
    second = loaded.bind(given(5.0))
    assert second().unique().tolist() == [6.0] and first().unique().tolist() == [3.0]


def test_a_child_that_dies_says_why(tmp_path):
    assert "KeyError" in resident_in_a_child("nobody", tmp_path, tmp_path, 2, 1)["error"]


def test_bad_requests_are_sentences(folder, capsys):
    assert main(["bench", folder, "--only", "nobody"]) == 2
    assert "Expected contestants among" in capsys.readouterr().err
    assert main(["bench", folder, "--rounds", "0"]) == 2
    assert "rounds of at least 1" in capsys.readouterr().err
