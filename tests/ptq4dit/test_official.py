"""Official checkpoints against the architecture written out here, from its description (Peebles and Xie 2023)."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, layer_norm, linear, silu

from ptq4dit.metrics.tensor import relative_error
from ptq4dit.model.bundle import load
from ptq4dit.model.frequencies import frequencies_of, set_frequencies, trained_with
from ptq4dit.model.official import LazyVae, imagenet_labels
from ptq4dit.sampling.denoise import decode, denoise
from tests.ptq4dit.hostile import refused

WIDTH, DEPTH, HEADS, PATCH, SIDE, CLASSES = 32, 2, 2, 2, 4, 6


def table(width=WIDTH, side=SIDE):
    """Sine-cosine positions: half of the channels for the column, half for the row, sines before cosines."""
    omega = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")

    def encode(place):
        angle = place.flatten()[:, None].double() * omega
        return torch.cat([angle.sin(), angle.cos()], 1)

    return torch.cat([encode(columns), encode(rows)], 1)[None].float()


def official_state(seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    shapes = {
        "x_embedder.proj": (WIDTH, 4, PATCH, PATCH),
        "t_embedder.mlp.0": (WIDTH, 256),
        "t_embedder.mlp.2": (WIDTH, WIDTH),
        "final_layer.linear": (PATCH**2 * 8, WIDTH),
        "final_layer.adaLN_modulation.1": (2 * WIDTH, WIDTH),
    }
    for i in range(DEPTH):
        shapes |= {
            f"blocks.{i}.attn.qkv": (3 * WIDTH, WIDTH),
            f"blocks.{i}.attn.proj": (WIDTH, WIDTH),
            f"blocks.{i}.mlp.fc1": (4 * WIDTH, WIDTH),
            f"blocks.{i}.mlp.fc2": (WIDTH, 4 * WIDTH),
            f"blocks.{i}.adaLN_modulation.1": (6 * WIDTH, WIDTH),
        }
    state = {"pos_embed": table(), "y_embedder.embedding_table.weight": torch.randn(CLASSES + 1, WIDTH, generator=g)}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=g) / math.prod(shape[1:]) ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[0], generator=g) * 0.1
    return {name: tensor.to(dtype) for name, tensor in state.items()}


def official_forward(state, x, t, y):
    """The authors' DiT: 128 frequencies spaced over 128, every normalization with eps 1e-6."""

    def apply(name, value):
        return linear(value, state[f"{name}.weight"].flatten(1), state[f"{name}.bias"])

    def norm(value):
        return layer_norm(value, (WIDTH,), eps=1e-6)

    n, c, side = x.shape[0], x.shape[1], x.shape[2] // PATCH
    patches = x.reshape(n, c, side, PATCH, side, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(n, side**2, -1)
    h = apply("x_embedder.proj", patches) + state["pos_embed"]
    angle = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32) / 128)
    waves = torch.cat([angle.cos(), angle.sin()], 1).to(x.dtype)  # in float32, as in both models
    time = apply("t_embedder.mlp.2", silu(apply("t_embedder.mlp.0", waves)))
    condition = silu(time + state["y_embedder.embedding_table.weight"][y])
    for i in range(DEPTH):
        b1, s1, g1, b2, s2, g2 = apply(f"blocks.{i}.adaLN_modulation.1", condition)[:, None].chunk(6, 2)
        qkv = apply(f"blocks.{i}.attn.qkv", norm(h) * (1 + s1) + b1)
        q, k, v = qkv.reshape(n, -1, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q @ k.transpose(2, 3) / (WIDTH // HEADS) ** 0.5, -1) @ v
        h = h + g1 * apply(f"blocks.{i}.attn.proj", mixed.transpose(1, 2).flatten(2))
        inner = gelu(apply(f"blocks.{i}.mlp.fc1", norm(h) * (1 + s2) + b2), approximate="tanh")
        h = h + g2 * apply(f"blocks.{i}.mlp.fc2", inner)
    shift, scale = apply("final_layer.adaLN_modulation.1", condition)[:, None].chunk(2, 2)
    out = apply("final_layer.linear", norm(h) * (1 + scale) + shift)
    out = out.reshape(n, side, side, PATCH, PATCH, 8).permute(0, 5, 1, 3, 2, 4)
    return out.reshape(n, 8, side * PATCH, side * PATCH)


def saved(state, folder):
    torch.save(state, folder / "DiT-S-2.pt")
    return folder / "DiT-S-2.pt"


def inputs(dtype):
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    return x, torch.tensor([0, 400, 999]), torch.tensor([1, 5, 6])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equals_the_official_architecture(tmp_path, dtype, tolerance):
    state = official_state(dtype=dtype)
    dit = load(saved(state, tmp_path), dtype=dtype, heads=HEADS)
    x, t, y = inputs(dtype)
    expected = official_forward(state | {"pos_embed": dit.transformer.pos_embed.pos_embed}, x, t, y)
    actual = dit.transformer(x, timestep=t, class_labels=y).sample
    assert (actual - expected).abs().max() < tolerance * max(1.0, float(expected.abs().max()))
    assert dit.frequencies == "official" and dit.num_classes == CLASSES


def test_the_other_spacing_is_another_function(tmp_path):
    path = saved(official_state(), tmp_path)
    x, t, y = inputs(torch.float32)
    official, other = load(path, heads=HEADS), load(path, heads=HEADS, frequencies="diffusers")
    outputs = [d.transformer(x, timestep=t, class_labels=y).sample for d in (official, other)]
    assert relative_error(*outputs) > 1e-3 and other.frequencies == "diffusers"
    set_frequencies(other.transformer, "official")
    torch.testing.assert_close(other.transformer(x, timestep=t, class_labels=y).sample, outputs[0])
    assert frequencies_of(other.transformer) == "official"


def test_whose_weights_they_are():
    assert {trained_with(s) for s in ("facebook/DiT-XL-2-256", "x/DiT-XL-2-512/", "DiT-XL-2-256x256.pt")} == {
        "official"
    }
    assert trained_with("hub/models--facebook--DiT-XL-2-256/snapshots/0a1b") == "official"
    assert trained_with("assets/demo") == trained_with("DiT-XL-2-256/finetuned") == "diffusers"


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"ema": s, "opt": {}}, lambda s: {"model": s}])
def test_wrapped_state_dicts_and_sampling_without_a_vae(tmp_path, wrap):
    dit = load(saved(wrap(official_state()), tmp_path), heads=HEADS, vae=str(tmp_path / "none"))
    *_, last = denoise(dit, [1], steps=2)
    assert torch.isfinite(last.latents).all()
    with pytest.raises(ValueError, match="file brings none"):
        decode(dit, last.latents)


def test_a_local_vae_is_used_when_first_needed(tmp_path, dit):
    dit.vae.save_pretrained(tmp_path / "vae")
    loaded = load(saved(official_state(), tmp_path), heads=HEADS, vae=str(tmp_path / "vae"))
    assert isinstance(loaded.vae, LazyVae) and "loaded" not in loaded.vae.__dict__
    latents = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(decode(loaded, latents), decode(dit, latents))


def test_embedders_are_one_tensor_in_memory(tmp_path):
    first, second = load(saved(official_state(), tmp_path), heads=HEADS).transformer.transformer_blocks
    a, b = (block.norm1.emb.class_embedder.embedding_table.weight for block in (first, second))
    assert a.data_ptr() == b.data_ptr()


def test_refuses_what_is_no_whole_dit(tmp_path):
    state = official_state()
    cases = {
        "Expected 'blocks.1.mlp.fc2.bias'": {n: t for n, t in state.items() if n != "blocks.1.mlp.fc2.bias"},
        "got also": state | {"extra": torch.ones(1)},
        "of shape": state | {"blocks.0.mlp.fc1.weight": torch.ones(4 * WIDTH, WIDTH + 1)},
        "another one": state | {"pos_embed": table() + 0.1},
        "without 'x_embedder": {"a": torch.ones(1)},
        "without 'pos_embed'": {n: t for n, t in state.items() if n != "pos_embed"},
        "without 'final_layer.linear.weight'": {n: t for n, t in state.items() if n != "final_layer.linear.weight"},
        "without 'y_embedder": {n: t for n, t in state.items() if not n.startswith("y_embedder")},
        "the blocks of a DiT": {n: t for n, t in state.items() if not n.startswith("blocks.")},
    }
    for message, broken in cases.items():
        with pytest.raises(ValueError, match=message):
            load(saved(broken, tmp_path), heads=HEADS)
    path = saved(state, tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read safely"):
        load(path)
    with pytest.raises(ValueError, match="does not exist"):
        load(tmp_path / "none.pt")


HOSTILE = {
    "ten million blocks": {"blocks.10000000.attn.qkv.weight": torch.ones(1)},
    "a block left out": {"blocks.3.attn.qkv.weight": torch.ones(1)},
    "a billion classes in 128 bytes": {"y_embedder.embedding_table.weight": torch.ones(1, WIDTH).expand(10**9, WIDTH)},
    "a huge picture": {"pos_embed": torch.ones(1, 1, WIDTH).expand(1, 10**8, WIDTH)},
    "a huge width": {"x_embedder.proj.weight": torch.ones(1, 4, 2, 2).expand(10**9, 4, 2, 2)},
    "one axis": {"x_embedder.proj.weight": torch.ones(3)},
    "a patch of nothing": {"x_embedder.proj.weight": torch.ones(WIDTH, 4, 0, 0)},
    "no width": {"x_embedder.proj.weight": torch.ones(0, 4, 2, 2)},
    "no axis": {"final_layer.linear.weight": torch.tensor(1.0)},
    "no classes": {"y_embedder.embedding_table.weight": torch.ones(0, WIDTH)},
    "the null class alone": {"y_embedder.embedding_table.weight": torch.ones(1, WIDTH)},
    "integers": {"blocks.0.mlp.fc1.weight": torch.ones(4 * WIDTH, WIDTH, dtype=torch.int8)},
    "complex": {"blocks.0.mlp.fc1.weight": torch.ones(4 * WIDTH, WIDTH, dtype=torch.complex64)},
    "sparse": {"blocks.0.mlp.fc1.weight": torch.ones(4 * WIDTH, WIDTH).to_sparse()},
    "without values": {"blocks.0.mlp.fc1.weight": torch.ones(4 * WIDTH, WIDTH, device="meta")},
}


@pytest.mark.parametrize("edit", HOSTILE)
def test_what_a_file_claims_is_bounded_by_its_bytes(tmp_path, edit):
    path = saved(official_state() | HOSTILE[edit], tmp_path)
    refused(lambda: load(path, heads=HEADS))


@pytest.mark.parametrize("heads", [7, -2])
def test_heads_that_do_not_fit(tmp_path, heads):
    refused(lambda: load(saved(official_state(), tmp_path), heads=heads))


def test_a_compressed_file_is_none_of_torchs(tmp_path):
    import zipfile

    path = saved(official_state(), tmp_path)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content + b"\0" * 10**7 * name.endswith("data.pkl"))
    assert "compressed" in refused(lambda: load(path, heads=HEADS))


def test_runs_no_code_of_a_stranger(tmp_path):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"x_embedder.proj.weight": Attack()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="cannot be read safely"):
        load(tmp_path / "evil.pt")
    assert not marker.exists()


def test_files_of_self_trained_models(tmp_path, dit):
    """As the authors' training script writes them: smoothed weights beside the raw ones, an optimizer, arguments."""
    import argparse
    import pathlib

    from safetensors.torch import save_file

    state, raw = official_state(), official_state(seed=9)
    arguments = argparse.Namespace(model="DiT-S/2", results_dir=pathlib.PurePosixPath("results"), epochs=3, lr=1e-4)
    numbers = {"best": np.float64(0.5), "epoch": np.int64(3)}
    whole = {
        "numbers": numbers,
        "model": raw,
        "ema": state,
        "opt": {"state": {0: {"step": torch.tensor(3.0)}}},
        "args": arguments,
    }
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}
    torch.save(whole, tmp_path / "0050000.pt")
    torch.save(whole, tmp_path / "former.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": wrapped}, tmp_path / "parallel.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "lightning.ckpt")
    save_file(state, tmp_path / "weights.safetensors")
    expected = load(saved(state, tmp_path), heads=HEADS).transformer.state_dict()
    for name in ("0050000.pt", "former.pt", "parallel.pth", "lightning.ckpt", "weights.safetensors"):
        loaded = load(tmp_path / name, heads=HEADS)
        assert loaded.frequencies == "official", name
        for key, value in loaded.transformer.state_dict().items():
            assert torch.equal(value, expected[key]), (name, key)


@pytest.mark.parametrize("former", [False, True])
def test_says_what_else_a_file_holds_in_one_plain_sentence(tmp_path, former):
    import fractions

    path = tmp_path / "odd.pt"
    content = {"ema": official_state(), "share": fractions.Fraction(1, 3)}
    torch.save(content, path, _use_new_zipfile_serialization=not former)
    with pytest.raises(ValueError) as caught:
        load(path)
    message = str(caught.value)
    assert "cannot be read safely" in message and "could run code" in message and "\n" not in message
    assert "fractions.Fraction" in message
    assert "\x1b" not in message and "weights_only" not in message and "option" not in message
    for name, junk in (("a.pt", b"junk"), ("b.ckpt", b""), ("c.safetensors", b"junk junk junk")):
        (tmp_path / name).write_bytes(junk)
        with pytest.raises(ValueError, match="cannot be read safely: it is damaged or no checkpoint") as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)


def test_a_former_file_runs_no_code_of_a_stranger_either(tmp_path):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"ema": Attack()}, tmp_path / "evil.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="cannot be read safely"):
        load(tmp_path / "evil.ckpt")
    assert not marker.exists()


def test_imagenet_labels():
    labels = imagenet_labels()
    assert len(labels) == 1000 and len(set(labels.values())) > 990
    assert (labels[0], labels[207], labels[388]) == ("tench", "golden retriever", "giant panda")
    assert "toilet" in labels[999]
