"""Exported graphs, run by the runtimes that they are for, against the simulated model."""

import json

import numpy as np
import pytest
import torch

from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.deploy.export import export
from ptq4dit.methods.registry import quantize

SETTINGS = {
    "W8A8": {},
    "W8A8 symmetric": {"weight_symmetric": True},
    "W4A8": {"weight_bits": 4},
    "W3A6": {"weight_bits": 3, "activation_bits": 6, "activation_symmetric": True},
    "W4A6, fc2 balanced": {"weight_bits": 4, "activation_bits": 6, "balance_fc2": True},
    "everything": {"patch_embed": True, "modulation": True, "conditioning": True, "final_layer": True},
}


@pytest.fixture(scope="module")
def stats(dit):
    return calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2))


@pytest.fixture(scope="module")
def quantized(dit, stats):
    return {
        name: quantize(dit, stats, QuantConfig(weight_range="minmax", **settings))
        for name, settings in SETTINGS.items()
    }


def inputs(rows=3):
    latents = torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return latents, torch.tensor([999, 500, 0])[:rows], torch.tensor([0, 3, 5])[:rows]


def simulated(model, rows=3):
    latents, timestep, labels = inputs(rows)
    with torch.no_grad():
        return model.transformer(latents, timestep=timestep, class_labels=labels).sample.numpy()


def feed(rows=3):
    return dict(zip(("latents", "timestep", "class_labels"), (x.numpy() for x in inputs(rows)), strict=True))


def by_onnxruntime(folder, rows=3):
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return session.run(["sample"], feed(rows))[0]


def by_openvino(file, rows=3):
    import openvino

    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(feed(rows))["sample"]


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_norms_with_a_gain_and_a_bias_are_part_of_the_graph(make_dit, tmp_path, target):
    model = make_dit(norm_elementwise_affine=True)
    stats = calibrate(model, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2))
    model = quantize(model, stats, QuantConfig(weight_range="minmax"))
    folder = export(model, target, tmp_path / "model")
    found = by_onnxruntime(folder) if target == "onnx" else by_openvino(folder / "model.xml")
    assert distance(found, simulated(model)) < 5e-3


def test_a_dit_that_the_graphs_would_compute_differently_is_refused(make_dit, tmp_path):
    model = make_dit(activation_fn="geglu")
    stats = calibrate(model, CalibrationConfig(timesteps=1, samples_per_timestep=1, steps=1))
    model = quantize(model, stats, QuantConfig(weight_range="minmax"))
    with pytest.raises(ValueError, match=r"GEGLU in 'transformer_blocks\.0\.ff'"):
        export(model, "onnx", tmp_path / "model")


@pytest.mark.parametrize("name", SETTINGS)
def test_onnx_gives_the_simulated_models_numbers(quantized, tmp_path, name):
    folder = export(quantized[name], "onnx", tmp_path / "model")
    assert distance(by_onnxruntime(folder), simulated(quantized[name])) < 5e-3  # rounding flips
    assert distance(by_onnxruntime(folder, 1), simulated(quantized[name], 1)) < 5e-3  # another batch


@pytest.mark.parametrize("name", SETTINGS)
def test_openvino_gives_the_simulated_models_numbers(quantized, tmp_path, name):
    folder = export(quantized[name], "openvino", tmp_path / "model")
    assert distance(by_openvino(folder / "model.xml"), simulated(quantized[name])) < 2e-2
    assert distance(by_openvino(folder / "model.xml", 1), simulated(quantized[name], 1)) < 2e-2


def test_openvino_reads_the_onnx_file(quantized, tmp_path):
    folder = export(quantized["W8A8"], "onnx", tmp_path / "model")
    assert distance(by_openvino(folder / "model.onnx"), simulated(quantized["W8A8"])) < 2e-2


def test_packed_weights_take_half_a_byte_and_give_the_same_numbers(quantized, tmp_path):
    onnx = pytest.importorskip("onnx")
    whole = export(quantized["W4A8"], "onnx", tmp_path / "whole")
    packed = export(quantized["W4A8"], "onnx", tmp_path / "packed", pack_4_bits=True)
    np.testing.assert_array_equal(by_onnxruntime(packed), by_onnxruntime(whole))
    kinds = {t.name: t.data_type for t in onnx.load(packed / "model.onnx").graph.initializer if ".weight" in t.name}
    assert set(kinds.values()) == {onnx.TensorProto.UINT4}
    assert (packed / "model.onnx").stat().st_size < (whole / "model.onnx").stat().st_size


def test_integers_and_scales_are_the_models_own(quantized, tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(export(quantized["W4A8"], "onnx", tmp_path / "model") / "model.onnx").graph
    stored = {t.name.rsplit("_", 1)[0]: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    layer = quantized["W4A8"].transformer.transformer_blocks[1].ff.net[2]
    steps = layer.weight_q.int() - layer.weight_zero_point
    np.testing.assert_array_equal(stored["blocks.1.fc2.weight"], steps.T.numpy())
    np.testing.assert_array_equal(stored["blocks.1.fc2.scale"], layer.weight_scale[:, 0].numpy())
    operations = [node.op_type for node in graph.node]
    assert operations.count("QuantizeLinear") == 2 * 4 and operations.count("DequantizeLinear") == 2 * 2 * 4


def test_a_wrong_scale_would_be_seen(dit, stats, tmp_path):
    model = quantize(dit, stats, QuantConfig(weight_range="minmax"))
    right = simulated(model)
    model.transformer.transformer_blocks[0].ff.net[2].activation_scale *= 1.1
    assert distance(by_onnxruntime(export(model, "onnx", tmp_path / "model")), right) > 5e-3


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_manifest_says_what_is_there(quantized, tmp_path, target):
    folder = export(quantized["W4A8"], target, tmp_path / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["target"] == target and manifest["model"]["label"] == "W4A8" and manifest["null_class"] == 5
    assert manifest["inputs"]["latents"] == ["float32", [-1, 4, 8, 8]]
    assert set(manifest["sha256"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    export(quantized["W4A8"], target, folder)  # replaces an older one
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_bad_requests_are_refused_and_leave_nothing(dit, stats, quantized, tmp_path):
    model = quantized["W8A8"]
    with pytest.raises(ValueError, match="target among"):
        export(model, "tflite", tmp_path / "a")
    with pytest.raises(ValueError, match="quantized model, got a float"):
        export(dit, "onnx", tmp_path / "a")
    with pytest.raises(ValueError, match="pack_4_bits"):
        export(model, "openvino", tmp_path / "a", pack_4_bits=True)
    grouped = quantize(dit, stats, QuantConfig(weight_range="minmax", group_size=8))
    with pytest.raises(ValueError, match=r"blocks\.0\.qkv.*group_size"):
        export(grouped, "onnx", tmp_path / "a")
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="other files"):
        export(model, "onnx", tmp_path)


def test_a_missing_package_is_named(quantized, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install onnx"):
        export(quantized["W8A8"], "onnx", tmp_path / "a")


def test_openvino_is_safe_in_bfloat16(quantized, tmp_path):
    """No timestep is a float in the graph, and neighbours keep different rows of the table in bf16."""
    import openvino

    from ptq4dit.deploy.sinusoid import sinusoids

    folder = export(quantized["W8A8"], "openvino", tmp_path / "out")
    model = openvino.Core().read_model(folder / "model.xml")
    assert not {"Cos", "Sin"} & {node.get_type_name() for node in model.get_ops()}
    reads = [port.get_node() for port in model.input("timestep").get_target_inputs()]
    assert reads and all(node.get_type_name() in ("Gather", "Convert") for node in reads)
    assert all(node.output(0).get_element_type().is_integral() for node in reads if node.get_type_name() == "Convert")
    assert model.get_rt_info(["runtime_options", "INFERENCE_PRECISION_HINT"]).astype(str) == "f32"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["compile_with"] == {"INFERENCE_PRECISION_HINT": "f32"} and manifest["timesteps"] == 1000
    block = quantized["W8A8"].torch_transformer.transformer_blocks[0]
    table = torch.from_numpy(sinusoids(block.norm1.emb, 1000)).bfloat16()
    assert len(table.unique(dim=0)) == 1000
    exact = block.norm1.emb.time_proj(torch.arange(1000))
    torch.testing.assert_close(torch.from_numpy(sinusoids(block.norm1.emb, 1000)), exact, rtol=0, atol=2e-4)


@pytest.mark.parametrize("target", ["openvino", "onnx"])
def test_nothing_in_it_tells_of_this_machine(quantized, tmp_path, target):
    import dataclasses

    model = dataclasses.replace(quantized["W8A8"], source=str(tmp_path / "secret" / "mine"))
    folder = export(model, target, tmp_path / "out")
    assert json.loads((folder / "manifest.json").read_text())["model"]["source"] == "mine"
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path
