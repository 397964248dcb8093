"""Quantized transformers through diffusers' own loaders and savers: every family, bit for bit, without a warning."""

import json
import subprocess
import sys

import diffusers
import pytest
import torch
from safetensors.torch import load_file

import ptq4dit
from ptq4dit.quantized.linear import QuantizedLinear
from tests.long_form import usually
from tests.ptq4dit.checkpoint.quantized_tiny import quantized, require_same, said
from tests.ptq4dit.model.tiny_models import ONE_EACH, TINY, output_of, relative_difference

FRESH = """
import sys, torch
torch.set_num_threads(int(sys.argv[1]))
import ptq4dit, diffusers
from safetensors.torch import save_file
for name, kind in zip(sys.argv[3::2], sys.argv[4::2]):
    model = getattr(diffusers, kind).from_pretrained(f"{sys.argv[2]}/{name}")
    call = torch.load(f"{sys.argv[2]}/{name}.pt")
    with torch.no_grad():
        save_file({"output": model(**call)[0].contiguous()}, f"{sys.argv[2]}/{name}.safetensors")
"""


@pytest.mark.parametrize("name", usually(TINY, ONE_EACH))
def test_every_family_is_saved_and_loaded_bit_for_bit(name, tmp_path, capfd):
    _, _, model, call = quantized(name)
    model.save_pretrained(tmp_path)
    capfd.readouterr()
    loaded = type(model).from_pretrained(tmp_path)
    assert said(capfd) == []
    require_same(model, loaded, call)
    assert loaded.ptq4dit_record == model.ptq4dit_record
    assert sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix == ".bin") == 0


def test_the_same_in_a_fresh_process(tmp_path):
    names = ("sd3", "flux", "pixart-sigma", "wan")
    arguments = []
    for name in names:
        _, _, model, call = quantized(name)
        model.save_pretrained(tmp_path / name)
        torch.save(dict(call.kwargs), tmp_path / f"{name}.pt")
        arguments += [name, type(model).__name__]
    code = [sys.executable, "-c", FRESH, str(torch.get_num_threads()), tmp_path, *arguments]
    subprocess.run(code, check=True, capture_output=True)
    for name in names:
        _, _, model, call = quantized(name)
        with torch.no_grad():
            assert torch.equal(load_file(tmp_path / f"{name}.safetensors")["output"], call.on(model)[0]), name


CONFIGS = {
    "two bits": {"weight_bits": 2},
    "8 bits, dynamic": {"weight_bits": 8, "activation_granularity": "per_token"},
    "grouped in time": {"activation_granularity": "per_timestep_group", "timestep_groups": 3},
    "rotated, ranked": {"rotation": True, "rank": 2, "method": "svdquant"},
    "float weights": {"weight_bits": 16},
    "float inputs": {"activation_bits": 16},
    "grouped": {"group_size": 8},
    "symmetric": {"weight_symmetric": True, "activation_symmetric": True},
    "of several widths": {"overrides": (("*.fc2", 8),)},
}


@pytest.mark.parametrize("settings", CONFIGS)
def test_whatever_a_config_says(settings, tmp_path):
    given = dict(CONFIGS[settings])
    overrides = {pattern: {"weight_bits": bits} for pattern, bits in given.pop("overrides", ())}
    transformer, stats, _, call = quantized("sd3")
    if given.get("rank"):
        given |= {"method": "svdquant", "rotation": False}
    model = ptq4dit.quantize_transformer(
        transformer, stats, ptq4dit.QuantConfig(**({"weight_bits": 4} | given), overrides=overrides)
    )
    model.save_pretrained(tmp_path)
    require_same(model, type(model).from_pretrained(tmp_path), call)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_types_of_all_buffers_come_back(dtype, tmp_path):
    _, _, model, call = quantized("pixart-sigma", dtype)
    model.save_pretrained(tmp_path)
    require_same(model, type(model).from_pretrained(tmp_path), call)
    require_same(model, type(model).from_pretrained(tmp_path, torch_dtype=dtype), call)


def test_a_position_table_that_stayed_float32_does(tmp_path):
    """As `from_pretrained(torch_dtype=...)` leaves it, which casts no buffers."""
    _, _, model, _ = quantized("sd3", torch.bfloat16)
    model.pos_embed.float()
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.pos_embed.pos_embed.dtype == torch.float32
    require_same(model, loaded)


def test_another_type_is_for_what_is_not_quantized(tmp_path):
    _, _, model, call = quantized("sd3")
    model.save_pretrained(tmp_path)
    half = type(model).from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16 and {p.dtype for p in half.parameters()} == {torch.bfloat16}
    linears = [module for module in half.modules() if isinstance(module, QuantizedLinear)]
    assert {m.weight.dtype for m in linears} == {torch.bfloat16} and {m.weight_scale.dtype for m in linears} == {
        torch.float32
    }
    moved = type(model).from_pretrained(tmp_path).to(torch.float64)
    assert moved.dtype == torch.float64
    exact = output_of(model, call)
    cast = {key: value.bfloat16() if value.is_floating_point() else value for key, value in tensors(call).items()}
    with torch.no_grad():
        assert relative_difference(exact, half(**cast, return_dict=False)[0].flatten()) < 0.2


def tensors(call):
    return {key: value for key, value in call.kwargs.items() if isinstance(value, torch.Tensor)}


def test_sharded_and_saved_again(tmp_path):
    _, _, model, call = quantized("flux")
    model.save_pretrained(tmp_path / "first", max_shard_size="8KB")
    assert len(list((tmp_path / "first").glob("*.safetensors"))) > 3
    assert (tmp_path / "first" / "diffusion_pytorch_model.safetensors.index.json").is_file()
    loaded = type(model).from_pretrained(tmp_path / "first")
    require_same(model, loaded, call)
    loaded.save_pretrained(tmp_path / "second")
    require_same(model, type(model).from_pretrained(tmp_path / "second"), call)


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_device_map(device_map, tmp_path):
    _, _, model, call = quantized("pixart-sigma")
    model.save_pretrained(tmp_path)
    require_same(model, type(model).from_pretrained(tmp_path, device_map=device_map), call)


def test_copies_are_stored_once_and_four_bits_take_half_a_byte(tmp_path):
    sizes = {}
    for bits in (4, 8):
        _, _, model, _ = quantized("dit", weight_bits=bits)
        model.save_pretrained(tmp_path / str(bits))
        sizes[bits] = (tmp_path / str(bits) / "diffusion_pytorch_model.safetensors").stat().st_size
    weights = sum(module.weight_q.numel() for module in model.modules() if hasattr(module, "weight_q"))
    assert sizes[8] - sizes[4] == pytest.approx(weights / 2, rel=0.1)


def test_buffers_that_were_equal_are_changed_apart(tmp_path):
    """Scales that happen to be equal are stored once; changing one of them later must not change the others."""
    _, _, model, _ = quantized("sd3", activation_symmetric=True)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    linears = [module for module in loaded.modules() if isinstance(module, QuantizedLinear)]
    linears[0].activation_zero_point.fill_(7)
    assert all(int(module.activation_zero_point) == 0 for module in linears[1:])


def test_quantized_while_it_is_loaded(tmp_path):
    transformer, stats, model, call = quantized("sd3")
    transformer.save_pretrained(tmp_path / "float")
    stats.save(tmp_path / "stats.safetensors")
    config = ptq4dit.DiffusersConfig(weight_bits=4, calibration=tmp_path / "stats.safetensors")
    for _ in range(2):
        made = type(model).from_pretrained(tmp_path / "float", quantization_config=config)
        require_same(model, made, call)
    made.save_pretrained(tmp_path / "quantized")
    assert str(tmp_path) not in (tmp_path / "quantized" / "config.json").read_text().replace(
        json.dumps(str(tmp_path / "float")), ""
    )
    require_same(model, type(model).from_pretrained(tmp_path / "quantized"), call)
    with pytest.raises(ValueError, match="does not exist"):
        absent = ptq4dit.DiffusersConfig(weight_bits=4, calibration="absent.safetensors")
        type(model).from_pretrained(tmp_path / "float", quantization_config=absent)
    with pytest.raises(ValueError, match="file of a calibration"):
        ptq4dit.DiffusersConfig(weight_bits=4)


@pytest.mark.parametrize(
    "code",
    [
        "import ptq4dit, sys; assert 'torch' not in sys.modules; import diffusers",
        pytest.param("from diffusers import SD3Transformer2DModel; import ptq4dit, diffusers", marks=pytest.mark.long),
        pytest.param("import diffusers.quantizers.auto; import ptq4dit", marks=pytest.mark.long),
        pytest.param("from ptq4dit import DiffusersConfig; import diffusers", marks=pytest.mark.long),
        pytest.param("import ptq4dit.checkpoint.quantizer; import diffusers", marks=pytest.mark.long),
    ],
)
def test_the_order_of_imports_does_not_matter(code):
    check = (
        "; from diffusers.quantizers.auto import AUTO_QUANTIZER_MAPPING as a, AUTO_QUANTIZATION_CONFIG_MAPPING as b;"
        "assert b['ptq4dit'] is ptq4dit.DiffusersConfig if 'ptq4dit' in dir() else b['ptq4dit'] is DiffusersConfig;"
        "assert a['ptq4dit'] and issubclass(diffusers.PTQ4DiTPipeline, diffusers.DiTPipeline)"
    )
    subprocess.run([sys.executable, "-c", code + check], check=True, capture_output=True)


def test_without_this_package_the_error_names_it(tmp_path):
    _, _, model, _ = quantized("sd3")
    model.save_pretrained(tmp_path)
    code = f"import diffusers; diffusers.SD3Transformer2DModel.from_pretrained({str(tmp_path)!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode != 0 and "got ptq4dit" in result.stderr.splitlines()[-1]


def test_a_hub_repository_in_the_cache(tmp_path, monkeypatch):
    """What a repository looks like once it is fetched: links to blobs; no network."""
    _, _, model, call = quantized("sd3")
    repository = tmp_path / "models--me--sd3-w4a8"
    snapshot = repository / "snapshots" / ("0" * 40)
    model.save_pretrained(tmp_path / "saved")
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "blobs").mkdir()
    snapshot.mkdir(parents=True)
    for path in (tmp_path / "saved").iterdir():
        path.rename(repository / "blobs" / path.name)
        (snapshot / path.name).symlink_to(repository / "blobs" / path.name)
    loaded = type(model).from_pretrained("me/sd3-w4a8", cache_dir=tmp_path, local_files_only=True)
    require_same(model, loaded, call)


def test_pickles_are_refused(tmp_path):
    _, _, model, _ = quantized("sd3")
    with pytest.raises(ValueError, match="safetensors only"):
        model.save_pretrained(tmp_path, safe_serialization=False)


def test_missing_and_unknown_tensors_are_refused(tmp_path):
    _, _, model, _ = quantized("sd3")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["num_layers"] += 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="exactly the tensors of this SD3Transformer2DModel"):
        diffusers.SD3Transformer2DModel.from_pretrained(tmp_path)
