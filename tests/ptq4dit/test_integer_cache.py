"""Compiled models on disk: found again, rebuilt when damaged, bounded, keyed by what they depend on."""

import dataclasses
import inspect
import os
import subprocess
import sys

import openvino
import pytest
import torch

from ptq4dit.backends import openvino as backend
from ptq4dit.backends.dispatch import with_backend
from ptq4dit.backends.marks import marked
from ptq4dit.backends.openvino_attention import rounded_product
from ptq4dit.backends.openvino_cache import CompiledCache, cache_folder, content_key, payload_bytes
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.rewritten import REWRITTEN
from ptq4dit.backends.tracing import trace_graph
from ptq4dit.calibration.run import calibrate
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.methods.registry import quantize


@pytest.fixture(scope="module")
def model(dit):
    stats = calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2, rows_per_timestep=4))
    return quantize(dit, stats, QuantConfig(weight_bits=4))


@pytest.fixture
def options(tmp_path):
    return IntegerOptions(cache=tmp_path, threads=1)


@pytest.fixture
def compilations(monkeypatch):
    """Counts what is compiled."""
    seen, compile_model = [], backend._compile
    monkeypatch.setattr(backend, "_compile", lambda *given: (seen.append(given), compile_model(*given)))
    return seen


def output(model):
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return model.transformer(x, timestep=torch.tensor([9, 900]), class_labels=torch.tensor([1, 5])).sample


def test_a_second_start_compiles_nothing(model, options, compilations):
    first, second = (output(with_backend(model, "integer", options)) for _ in range(2))
    assert len(compilations) == 1 and torch.equal(first, second)


def test_a_damaged_file_is_rebuilt(model, options, compilations, tmp_path):
    expected = output(with_backend(model, "integer", options))
    (file,) = set(tmp_path.glob("*.openvino")) - set(tmp_path.glob("*-integers.openvino"))
    for damage in (lambda b: b[:-1], lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:], lambda b: b"x"):
        file.write_bytes(damage(file.read_bytes()))
        assert torch.equal(output(with_backend(model, "integer", options)), expected)
    assert len(compilations) == 4


def test_a_file_that_this_runtime_cannot_read_is_rebuilt(model, options, compilations, tmp_path):
    expected = output(with_backend(model, "integer", options))
    (file,) = set(tmp_path.glob("*.openvino")) - set(tmp_path.glob("*-integers.openvino"))
    cache = CompiledCache(folder=tmp_path, limit=2**30)
    cache.store(file.stem, lambda new: new.write_bytes(b"what another build of the runtime wrote" * 99))
    assert torch.equal(output(with_backend(model, "integer", options)), expected) and len(compilations) == 2


def test_damaged_integers_are_written_again(model, options, tmp_path):
    with_backend(model, "integer", options)
    (file,) = tmp_path.glob("*-integers.openvino")
    right = file.read_bytes()
    file.write_bytes(right[:-40] + bytes(40))
    lean = with_backend(model, "integer", options).transformer.twin
    assert file.read_bytes() == right
    kept = lean.transformer_blocks[0].ff.net[2].integers()
    assert torch.equal(kept, model.transformer.transformer_blocks[0].ff.net[2].weight_q)


def test_integers_of_layers_outside_the_graph_are_told_apart(dit, options):
    """The step does not depend on them, and so has one key for both models."""
    stats = calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2, rows_per_timestep=4))
    one = quantize(dit, stats, QuantConfig(weight_bits=4, modulation=True))
    other = with_backend(one, "simulated")
    linear = other.transformer.transformer_blocks[0].norm1.linear
    linear.weight_q = linear.weight_q ^ 1
    for each in (one, other):
        expected = each.transformer.transformer_blocks[0].norm1.linear.weight_q
        twin = with_backend(each, "integer", options).transformer.twin
        assert torch.equal(twin.transformer_blocks[0].norm1.linear.integers(), expected)


def test_another_weight_or_setting_is_another_model(model, options, compilations):
    with_backend(model, "integer", options)
    with_backend(model, "integer", dataclasses.replace(options, threads=2))
    other = with_backend(model, "simulated")
    linear = other.transformer.transformer_blocks[0].ff.net[2]
    linear.weight_q = linear.weight_q ^ 1
    with_backend(other, "integer", options)
    assert len(compilations) == 3


def test_another_version_is_another_model(model, options, compilations, monkeypatch):
    with_backend(model, "integer", options)
    monkeypatch.setattr(openvino, "__version__", "1.2.3-other")
    with_backend(model, "integer", options)
    assert len(compilations) == 2


def test_a_setting_of_one_layer_is_another_model(model, options, compilations):
    """Only the bits of one layer's input change; its scale, zero point and weights stay."""
    with_backend(model, "integer", options)
    other = with_backend(model, "simulated")
    linear = other.transformer.transformer_blocks[0].ff.net[2]
    linear.config = dataclasses.replace(linear.config, activation_bits=6)
    with_backend(other, "integer", options)
    assert len(compilations) == 2


def test_the_order_of_a_set_in_the_config_is_not_part_of_the_key(model):
    """A model made in Python, or read from an old config.json, has a set of the defaults that it uses."""
    twin, keys = with_backend(model, "simulated").transformer, set()
    for order in (["a", "b"], ["b", "a"]):
        twin.register_to_config(_use_default_values=order, extra={"b", "a"})
        keys.add(content_key(backend._content(twin, {}, (), ())))
    assert len(keys) == 1


KEY = """
import torch
from diffusers import DiTTransformer2DModel
from ptq4dit.backends import openvino
from ptq4dit.backends.openvino_cache import content_key
torch.manual_seed(0)
sizes = dict(num_attention_heads=1, attention_head_dim=8, in_channels=4, num_layers=1, sample_size=4)
model = DiTTransformer2DModel(**sizes, norm_num_groups=4)
print(content_key(openvino._content(model, {"some": {"x", "y", "z"}}, (), ())))
"""


def test_keys_are_the_same_in_every_process(capsys):
    """In this one, and in one where sets of texts are in another order."""
    env = os.environ | {"PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    there = subprocess.run([sys.executable, "-c", KEY], env=env, capture_output=True, text=True).stdout
    capsys.readouterr()
    exec(KEY, {})
    assert capsys.readouterr().out == there and len(there) == 33


def test_a_graph_of_other_code_is_another_one():
    """All that has a hand in a traced graph is part of its key."""
    writers = {inspect.getmodule(one) for one in (trace_graph, marked, REWRITTEN["pad_sequence"].run, rounded_product)}
    assert len(writers) == 4 and writers <= set(backend._TRACERS)
    model = torch.nn.Linear(2, 2)
    one, other = (content_key(backend._content(model, {}, each, ())) for each in (backend._TRACERS, backend._LAYERS))
    assert one != other


def test_the_least_recently_used_go_first(tmp_path):
    cache = CompiledCache(folder=tmp_path, limit=300)
    for age, name in enumerate(("old", "used", "new")):
        cache.store(name, lambda file: file.write_bytes(bytes(60)))
        os.utime(cache.path(name), (age, age))
    assert cache.find("old") is not None  # 92 bytes each; finding it makes it the newest
    cache.store("fourth", lambda file: file.write_bytes(bytes(60)))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["fourth", "new", "old"]
    assert payload_bytes(cache.path("new")) == 60


def test_one_model_larger_than_the_limit_stays_alone(tmp_path):
    cache = CompiledCache(folder=tmp_path, limit=10)
    for name in ("a", "b"):
        cache.store(name, lambda file: file.write_bytes(bytes(60)))
    assert [path.stem for path in tmp_path.iterdir()] == ["b"]


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail(file):
        file.write_bytes(b"half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        CompiledCache(folder=tmp_path, limit=10).store("a", fail)
    assert not list(tmp_path.iterdir())


def test_refuses_a_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"folder for compiled models that can be written.*PTQ4DIT_CACHE"):
        with_backend(model, "integer", IntegerOptions(cache=tmp_path / "file" / "below"))


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("PTQ4DIT_CACHE", str(tmp_path / "mine"))
    assert cache_folder(None) == tmp_path / "mine" and cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("PTQ4DIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / "ptq4dit"


def test_keys_tell_where_a_part_ends():
    assert content_key([b"ab", b"c"]) != content_key([b"a", b"bc"])
