"""Models whose weights stay on disk: the same statistics and integers as in memory, and memory flat in the blocks."""

import copy
import dataclasses
import gc
import shutil

import pytest
import torch

import ptq4dit
from ptq4dit.cli import main
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.model.families.registry import family_of
from ptq4dit.model.fingerprint import fingerprint
from ptq4dit.model.streamed import any_streamed, device_of, is_streamed, stream
from ptq4dit.quantized.linear import QuantizedLinear
from tests.load import growth
from tests.long_form import usually
from tests.ptq4dit.model.tiny_models import tiny
from tests.ptq4dit.tiny_pipelines import tiny_sd3
from tests.ptq4dit.tiny_trajectories import recorded

CONFIG = QuantConfig(
    method="gptq",
    weight_bits=4,
    csb=False,
    ssc=False,
    activation_range="mse",
    weight_range="mse",
    reconstruction=ReconstructionConfig(images=6, held_out=0.25),
)


def observed(transformer, data):
    with ptq4dit.watch(transformer) as seen, torch.no_grad():
        for timestep in data.timesteps.unique():
            data.call((data.timesteps == timestep).nonzero()[:, 0]).on(transformer)
    return seen.calibration()


@pytest.fixture(scope="module", params=["flux", "sd3"])
def case(request, tmp_path_factory):
    """A model in memory, the same on disk, and recorded calls."""
    held, _ = tiny(request.param, dtype=torch.float32)
    streamed, data = copy.deepcopy(held), recorded(request.param, held, calls=3)
    stream(streamed, tmp_path_factory.mktemp("weights"))
    return held, streamed, data


def test_on_disk_it_is_the_same_model(case):
    held, streamed, data = case
    assert all(parameter.is_meta for parameter in streamed.parameters())
    assert any(is_streamed(module) for module in streamed.modules()) and device_of(streamed).type == "cpu"
    assert fingerprint(streamed) == fingerprint(held)
    one, other = observed(held, data), observed(streamed, data)
    assert one.layers == other.layers and one.model == other.model
    for name in one.layers:
        assert torch.equal(one.weight_salience[name], other.weight_salience[name])
        assert torch.equal(one.activation_max[name], other.activation_max[name])
        assert torch.equal(one.samples[name], other.samples[name])


@pytest.mark.parametrize("case", ["flux"], indirect=True)
@pytest.mark.parametrize("method", usually(("ours", "ptq4dit", "repq"), ("ours",)))
def test_its_integers_are_those_that_it_has_in_memory(case, tmp_path, method):
    """Folded and learned, searched, shifted: all is done as the weights are read."""
    held, streamed, data = case
    stats, before = observed(held, data), fingerprint(streamed)
    learned = CONFIG.reconstruction if ptq4dit.METHODS[method].reconstructs else None
    config = dataclasses.replace(CONFIG, method=method, csb=True, ssc=True, reconstruction=learned)
    exact = ptq4dit.quantize_transformer(held, stats, config, data=data)
    found = ptq4dit.quantize_transformer(streamed, stats, config, data=data, offload_folder=tmp_path)
    assert fingerprint(streamed) == before
    rounded = [name for name, module in exact.named_modules() if isinstance(module, QuantizedLinear)]
    assert rounded and all(is_streamed(found.get_submodule(name)) for name in rounded)
    with torch.no_grad():
        wanted, made = (data.call(slice(0, 4)).on(model) for model in (exact, found))
    assert torch.equal(wanted[0], made[0])
    there = found.state_dict()
    assert all(torch.equal(there[name], value) for name, value in exact.state_dict().items())


def test_what_it_cannot_do_is_said(case):
    held, streamed, data = case
    stats = observed(held, data)
    with pytest.raises(ValueError, match="Expected backend='simulated' for a model that stays on disk, got 'integer'"):
        integer = dataclasses.replace(CONFIG, backend="integer")
        ptq4dit.quantize_transformer(streamed, stats, integer, data=data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline's folder."""
    place = tmp_path_factory.mktemp("pipeline") / "sd3"
    tiny_sd3().save_pretrained(place)
    return place


def test_a_pipeline_on_disk_is_calibrated_quantized_saved_and_loaded(folder, tmp_path):
    """From the folder to the checkpoint, all as with the model in memory, to the last bit."""
    config = ptq4dit.CalibrationConfig(timesteps=2, steps=2, samples_per_timestep=2)
    asked = dataclasses.replace(CONFIG, method="ptq4dit", csb=True, ssc=True)
    states, pictures = [], []
    for name, offload in (("held", None), ("streamed", tmp_path / "weights")):
        dit = ptq4dit.load(folder, offload_folder=offload)
        assert any_streamed(dit.transformer) == (offload is not None)
        stats = ptq4dit.calibrate(dit, config, prompts=["a", "b"])
        model = ptq4dit.quantize(dit, stats, asked)
        ptq4dit.save_quantized(model, tmp_path / name)
        states.append(ptq4dit.load_quantized(tmp_path / name).transformer.state_dict())
        pictures.append(ptq4dit.generate(model, prompts=["c"], steps=2))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())
    assert torch.equal(*pictures)
    places = list((tmp_path / "weights").glob(".integers.*"))
    del model
    gc.collect()
    assert len(places) == 1 and not places[0].exists()


def test_a_live_pipeline_is_not_put_on_disk(folder, tmp_path):
    with pytest.raises(ValueError, match="Expected a folder or hub id with offload_folder, got a live pipeline"):
        ptq4dit.load(tiny_sd3(), offload_folder=tmp_path)


def test_the_commands_keep_it_on_disk(folder, tmp_path, capsys):
    stats, out, offload = tmp_path / "c.safetensors", tmp_path / "q", tmp_path / "offload"
    sizes = ("--timesteps", 2, "--steps", 2, "--samples", 2)
    for command in (
        ("calibrate", folder, *sizes, "--offload", offload, "--out", stats),
        ("quantize", folder, "--calibration", stats, "--weight-bits", 4, "--offload", offload, "--out", out),
    ):
        assert main(list(map(str, command))) == 0, capsys.readouterr().err
    assert any(offload.iterdir())
    whole = ptq4dit.quantize(ptq4dit.load(folder), ptq4dit.Calibration.load(stats), QuantConfig(weight_bits=4))
    made = ptq4dit.load_quantized(out).transformer.state_dict()
    assert all(torch.equal(made[name], value) for name, value in whole.transformer.state_dict().items())


def test_it_is_prepared_as_in_memory(folder, tmp_path, capsys):
    """Calibration, and what each layer's rounding does."""
    sizes = ("--steps", 2, "--calibration-steps", 2, "--timesteps", 2, "--samples", 2, "--examples", 0)
    made = {}
    for name, more in (("held", ()), ("streamed", ("--offload", tmp_path / "weights"))):
        shutil.copytree(folder, own := tmp_path / name)
        assert main([str(word) for word in ("prepare", own, *sizes, *more)]) == 0, capsys.readouterr().err
        sensitivity = ptq4dit.Sensitivity.load(own / "results" / "sensitivity.json")
        made[name] = sensitivity.errors, sensitivity.bytes
    assert made["streamed"] == made["held"]


@pytest.mark.parametrize("case", ["flux"], indirect=True)
def test_one_block_is_in_memory_at_a_time(case):
    """Whenever a block's turn comes no other's integers are there; `growth.py` measures what that takes."""
    held, streamed, data = case
    blocks = family_of(streamed).blocks(streamed)
    most = max(sum(isinstance(one, torch.nn.Linear) for one in held.get_submodule(path).modules()) for path in blocks)
    seen = []

    def look(*_):
        integers = [one for one in gc.get_objects() if isinstance(one, QuantizedLinear) and is_ours(one)]
        seen.append(sum(not one.weight_q.is_meta for one in integers))

    before = {id(one) for one in gc.get_objects() if isinstance(one, QuantizedLinear)}
    is_ours = lambda one: id(one) not in before  # noqa: E731
    found = ptq4dit.quantize_transformer(streamed, observed(held, data), CONFIG, data=data, progress=look)
    assert len(seen) >= len(blocks) > 1 and max(seen) <= most
    assert all(buffer.is_meta for name, buffer in found.named_buffers() if name.endswith("weight_q"))


def test_growth_is_measured_on_disk():
    taken = growth.memory(2, 128)
    assert taken["blocks"] == 2 and taken["weights_mb"] > 5 and taken["peak_mb"] > 100
