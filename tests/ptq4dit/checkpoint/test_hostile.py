"""Damaged and hostile checkpoints: one sentence each, quickly, and nothing outside the folder is opened."""

import builtins
import hashlib
import io
import json
import shutil
import struct
import time
from pathlib import Path

import pytest

import ptq4dit
from ptq4dit import CalibrationConfig, QuantConfig, calibrate, quantize

FORMER = Path(__file__).parents[1] / "format_3" / "w4a8"
WEIGHTS = {4: "transformer/diffusion_pytorch_model.safetensors", 3: "transformer/quantized.safetensors"}
INDEX, SCHEDULER = "model_index.json", "scheduler/scheduler_config.json"


def put(*path, value):
    """An edit of JSON: set a field; None deletes it."""

    def change(content):
        place = content
        for key in path[:-1]:
            place = place[key]
        if value is DELETED:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return change


DELETED = object()
NAN = float("nan")
MANIFEST_EDITS = {
    "no format": put("format", value=DELETED),
    "format is a list": put("format", value=[]),
    "label is a number": put("label", value=3),
    "method is unknown": put("config", "method", value="magic"),
    "config is text": put("config", value="W4A8"),
    "config is null": put("config", value=None),
    "unknown setting": put("config", "magic", value=1),
    "bits as text": put("config", "weight_bits", value="4"),
    "bits as a list": put("config", "weight_bits", value=[4]),
    "a million bits": put("config", "weight_bits", value=10**6),
    "csb as text": put("config", "csb", value="false"),
    "overrides as a number": put("config", "overrides", value=7),
    "options as a number": put("config", "options", value=7),
    "reconstruction as text": put("config", "reconstruction", value="yes"),
    "other backend": put("config", "backend", value="quantum"),
    "calibration as a list": put("calibration", value=[1]),
    "guidance as text": put("calibration", "guidance_scale", value="4"),
    "guidance is nan": put("calibration", "guidance_scale", value=NAN),
    "infinite statistics": put("statistics", "rows", value=float("inf")),
    "statistics as text": put("statistics", "rows", value="8"),
    "fingerprint is a number": put("model", value=7),
    "source is an object": put("source", value={}),
    "labels as a list": put("id2label", value=["cube"]),
    "labels by name": put("id2label", value={"cube": "cube"}),
    "labels as numbers": put("id2label", value={"0": 7}),
    "layers as text": put("layers", value="all"),
    "layers as numbers": put("layers", value=[1, 2]),
    "spec as text": put("layers", 0, "spec", value="W4"),
    "names as text": put("layers", 0, "layers", value="blocks.0.qkv"),
    "names as numbers": put("layers", 0, "layers", value=[1]),
    "no layers": put("layers", value=[]),
    "sums as a list": put("sha256", value=[]),
    "a sum is a number": put("sha256", INDEX, value=7),
    "a path outside": put("sha256", "../../etc/passwd", value="0" * 64),
    "an absolute path": put("sha256", "/etc/passwd", value="0" * 64),
    "a path with a backslash": put("sha256", "..\\secret", value="0" * 64),
    "an unknown file": put("sha256", "more.json", value="0" * 64),
    "a type that is a function": put("dtypes", "vae", value="save"),
    "a type that is a number": put("dtypes", "vae", value=32),
    "options as text": put("options", value="height"),
    "pipeline is null": put("pipeline", value=None),
}
FORMER_EDITS = {
    "dtype is a function": put("dtype", value="save"),
    "dtype is a number": put("dtype", value=4),
    "scheduler is a pipeline": put("scheduler", value="DiTPipeline"),
    "scheduler is a list": put("scheduler", value=[]),
    "frequencies unknown": put("frequencies", value="radio"),
    "aliases as a list": put("aliases", value=[]),
    "an alias of nothing": put("aliases", "pos_embed.proj.bias", value="nothing"),
    "an alias is a number": put("aliases", "pos_embed.proj.bias", value=7),
    "granularity of a million groups": put("config", "timestep_groups", value=10**6),
    "layers as text": put("layers", value="all"),
    "a path outside": put("sha256", "../../etc/passwd", value="0" * 64),
}
CONFIG, VAE = "transformer/config.json", "vae/config.json"
FILE_EDITS = {
    "a million blocks": (CONFIG, put("num_layers", value=1_000_000)),
    "negative blocks": (CONFIG, put("num_layers", value=-2_000)),
    "one block more": (CONFIG, put("num_layers", value=3)),
    "blocks as text": (CONFIG, put("num_layers", value="2")),
    "a huge picture": (CONFIG, put("sample_size", value=1_000_000)),
    "huge heads": (CONFIG, put("attention_head_dim", value=1_000_000)),
    "many classes": (CONFIG, put("num_embeds_ada_norm", value=5_000_000)),
    "another class": (CONFIG, put("_class_name", value="os.system")),
    "class is a list": (CONFIG, put("_class_name", value=["a", "b"])),
    "no quantization": (CONFIG, put("quantization_config", value=DELETED)),
    "another method": (CONFIG, put("quantization_config", "quant_method", value="gguf")),
    "another format": (CONFIG, put("quantization_config", "format", value="ptq4dit-transformer-9")),
    "no settings": (CONFIG, put("quantization_config", "settings", value=[])),
    "a path of nothing": (CONFIG, put("quantization_config", "layers", 0, 1, value=["nothing.here"])),
    "a path that is no name": (CONFIG, put("quantization_config", "layers", 0, 1, value=["../../etc"])),
    "a path of a norm": (CONFIG, put("quantization_config", "layers", 0, 1, value=["proj_out_1"])),
    "layers are numbers": (CONFIG, put("quantization_config", "layers", value=[1])),
    "huge rank": (CONFIG, put("quantization_config", "settings", 0, "spec", "rank", value=10**9)),
    "huge groups": (CONFIG, put("quantization_config", "settings", 0, "spec", "timestep_groups", value=10**9)),
    "long training": (SCHEDULER, put("num_train_timesteps", value=1_000_000_000)),
    "training as text": (SCHEDULER, put("num_train_timesteps", value="long")),
    "nan in the schedule": (SCHEDULER, put("beta_start", value=NAN)),
    "many vae layers": (VAE, put("layers_per_block", value=1_000_000)),
    "wide vae": (VAE, put("latent_channels", value=10**9)),
    "vae channels as text": (VAE, put("block_out_channels", value="wide")),
    "pipeline unknown": (INDEX, put("_class_name", value="EvilPipeline")),
    "pipeline is code": (INDEX, put("_class_name", value=["pipeline", "Evil"])),
    "component of another library": (INDEX, put("vae", value=["os", "system"])),
    "component is a number": (INDEX, put("vae", value=7)),
}


@pytest.fixture(scope="module")
def present(dit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "model"
    stats = calibrate(dit, CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2))
    ptq4dit.save_quantized(quantize(dit, stats, QuantConfig(weight_bits=4)), folder)
    return folder


def refused(folder, monkeypatch):
    """Loading says no in one sentence, within two seconds, and opens nothing outside the folder."""
    opened, real, real_io = [], builtins.open, io.open

    def watched(file, *args, **kwargs):
        opened.append(str(file))
        return real(file, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", watched)
        patch.setattr(io, "open", watched)
        begun = time.process_time()
        with pytest.raises(ValueError, match=r"^Expected .*[^\n]$") as caught:
            ptq4dit.load_quantized(folder)
        seconds = time.process_time() - begun
    assert real_io is real and "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert seconds < 2, seconds
    assert not [path for path in opened if "passwd" in path or "secret" in path]


def signed(folder):
    """Give the manifest the checksums of what is there now: the edit itself must be refused, not its traces."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("edit", MANIFEST_EDITS)
def test_a_manifest(edit, present, tmp_path, monkeypatch):
    shutil.copytree(present, tmp_path / "model")
    change(tmp_path / "model" / "manifest.json", MANIFEST_EDITS[edit])
    refused(tmp_path / "model", monkeypatch)


@pytest.mark.parametrize("edit", FORMER_EDITS)
def test_a_former_manifest(edit, tmp_path, monkeypatch):
    shutil.copytree(FORMER, tmp_path / "model")
    change(tmp_path / "model" / "manifest.json", FORMER_EDITS[edit])
    refused(tmp_path / "model", monkeypatch)


@pytest.mark.parametrize("edit", FILE_EDITS)
def test_configs(edit, present, tmp_path, monkeypatch):
    shutil.copytree(present, tmp_path / "model")
    name, own = FILE_EDITS[edit]
    change(tmp_path / "model" / name, own)
    signed(tmp_path / "model")
    refused(tmp_path / "model", monkeypatch)


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def header_of(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def write_header(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def filled(name, value):
    """Every value of the first tensor with such a name."""

    def edit(header, body):
        key = next(key for key in header if key.endswith(name))
        start, end = header[key]["data_offsets"]
        return header, body[:start] + struct.pack("<f", value) * ((end - start) // 4) + body[end:]

    return edit


def described(name, **fields):
    def edit(header, body):
        key = next(key for key in header if key.endswith(name))
        header[key] |= fields
        return header, body

    return edit


def facts(**fields):
    def edit(header, body):
        said = json.loads(header["__metadata__"]["ptq4dit"]) | fields
        header["__metadata__"]["ptq4dit"] = json.dumps(said)
        return header, body

    return edit


def renamed(header, body):
    key = next(key for key in header if key.endswith("weight_q"))
    header["unknown.weight_q"] = header.pop(key)
    return header, body


TENSOR_EDITS = {
    "nan scale": filled("weight_scale", NAN),
    "infinite scale": filled("activation_scale", float("inf")),
    "negative scale": filled("weight_scale", -1.0),
    "scale of zero": filled("activation_scale", 0.0),
    "nan bias": filled("bias", NAN),
    "a tensor less": renamed,
    "a longer body": lambda header, body: (header, body + b"more"),
    "a shorter body": lambda header, body: (header, body[:-4]),
    "another shape": described("weight_scale", shape=[10**9]),
    "another type": described("weight_scale", dtype="I32"),
    "unknown type": described("weight_scale", dtype="F1"),
    "offsets beyond": described("weight_q", data_offsets=[0, 10**12]),
    "no facts": lambda header, body: ({**header, "__metadata__": {}}, body),
    "dtype of the facts": facts(dtype="save"),
    "buffers of the facts": facts(buffers=[1]),
    "aliases of the facts": facts(aliases={"a": "b"}),
    "frequencies of the facts": facts(frequencies="radio"),
}


@pytest.mark.parametrize("edit", TENSOR_EDITS)
def test_tensors(edit, present, tmp_path, monkeypatch):
    shutil.copytree(present, tmp_path / "model")
    path = tmp_path / "model" / WEIGHTS[4]
    write_header(path, *TENSOR_EDITS[edit](*header_of(path)))
    signed(tmp_path / "model")
    refused(tmp_path / "model", monkeypatch)


@pytest.mark.parametrize("edit", ["nan scale", "negative scale", "a tensor less", "another shape"])
def test_former_tensors(edit, tmp_path, monkeypatch):
    shutil.copytree(FORMER, tmp_path / "model")
    path = tmp_path / "model" / WEIGHTS[3]
    write_header(path, *TENSOR_EDITS[edit](*header_of(path)))
    signed(tmp_path / "model")
    refused(tmp_path / "model", monkeypatch)


def test_files_that_are_no_json_and_no_tensors(present, tmp_path, monkeypatch):
    for name, text in (
        ("manifest.json", "[" * 100_000),
        ("manifest.json", "\x00"),
        (CONFIG, "[]"),
        (INDEX, "null"),
        (WEIGHTS[4], "{}"),
        (VAE, '"x"'),
    ):
        folder = tmp_path / "model"
        shutil.copytree(present, folder)
        (folder / name).write_text(text)
        if name != "manifest.json":
            signed(folder)
        refused(folder, monkeypatch)
        shutil.rmtree(folder)


def test_an_index_that_names_files_elsewhere(present, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(present, folder)
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "../../secret.safetensors"}}))
    change(folder / "manifest.json", put("sha256", index.relative_to(folder).as_posix(), value=""))
    signed(folder)
    refused(folder, monkeypatch)
