"""Float pipelines of strangers: damaged, or claiming more than their files hold."""

import shutil

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

import ptq4dit
from tests.ptq4dit.hostile import edit_json, refused

TRANSFORMER, VAE, SCHEDULER = "transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"
INDEX, WEIGHTS = "model_index.json", "transformer/diffusion_pytorch_model.safetensors"
QUERY = "transformer_blocks.0.attn1.to_q.weight"
NAN = float("nan")


@pytest.fixture(scope="module")
def folder(dit, tmp_path_factory):
    path = tmp_path_factory.mktemp("float") / "model"
    diffusers.DiTPipeline(dit.transformer, dit.vae, dit.scheduler).save_pretrained(path)
    return path


def field(file, **fields):
    return lambda folder: edit_json(folder / file, lambda content: content.update(fields))


def instead(file, content):
    return lambda folder: edit_json(folder / file, lambda _: content)


def text(file, content):
    return lambda folder: (folder / file).write_text(content)


def weights(change):
    def edit(folder):
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, {"format": "pt"})

    return edit


def gone(name):
    def edit(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return edit


def pickled(folder):
    class Attack:
        def __reduce__(self):
            return (open, (str(folder / "ran"), "w"))

    (folder / WEIGHTS).unlink()
    torch.save({"a": Attack()}, folder / "transformer" / "diffusion_pytorch_model.bin")


EDITS = {
    "a million blocks": field(TRANSFORMER, num_layers=1_000_000),
    "a block more": field(TRANSFORMER, num_layers=3),
    "a block less": field(TRANSFORMER, num_layers=1),
    "a million heads": field(TRANSFORMER, num_attention_heads=10**6),
    "many classes": field(TRANSFORMER, num_embeds_ada_norm=9_000_000),
    "no class": field(TRANSFORMER, num_embeds_ada_norm=0),
    "a huge picture": field(TRANSFORMER, sample_size=10**6),
    "many channels": field(TRANSFORMER, in_channels=10**9),
    "a patch of nothing": field(TRANSFORMER, patch_size=0),
    "eps as text": field(TRANSFORMER, norm_eps="small"),
    "an activation that is none": field(TRANSFORMER, activation_fn="evil"),
    "another class": field(TRANSFORMER, _class_name="Evil"),
    "a list of a config": instead(TRANSFORMER, [1]),
    "of another quantizer": field(TRANSFORMER, quantization_config={"quant_method": "gguf"}),
    "a long schedule": field(SCHEDULER, num_train_timesteps=10**9),
    "a schedule of text": field(SCHEDULER, num_train_timesteps="long"),
    "nan in the schedule": field(SCHEDULER, beta_start=NAN),
    "a wide autoencoder": field(VAE, latent_channels=10**9),
    "a deep autoencoder": field(VAE, layers_per_block=10**6),
    "an index of a list": instead(INDEX, [1]),
    "no transformer": field(INDEX, transformer=None),
    "a transformer of nothing": field(INDEX, transformer=[None, None]),
    "a pipeline that is none": field(INDEX, _class_name="Evil"),
    "a pipeline of its own code": field(INDEX, _class_name=["pipeline", "Evil"]),
    "another pipeline": field(INDEX, _class_name="StableDiffusionPipeline"),
    "a component of another library": field(INDEX, vae=["os", "system"]),
    "labels that are no numbers": field(INDEX, id2label={"a": "b"}),
    "labels as a list": field(INDEX, id2label=[1]),
    "no index": text(INDEX, "{"),
    "nested index": text(INDEX, "[" * 100_000),
    "no config": text(TRANSFORMER, "{"),
    "weights of junk": text(WEIGHTS, "junk junk junk"),
    "weights of a nul": text(WEIGHTS, "\0" * 100),
    "no weights": gone(WEIGHTS),
    "no transformer's folder": gone("transformer"),
    "no scheduler": gone("scheduler"),
    "a tensor less": weights(lambda tensors: tensors.pop(QUERY)),
    "another shape": weights(lambda tensors: tensors.update({QUERY: torch.ones(3, 3)})),
    "weights of integers": weights(lambda tensors: tensors.update({QUERY: tensors[QUERY].to(torch.int8)})),
    "code in a pickle": pickled,
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_folder(edit, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    EDITS[edit](tmp_path / "model")
    refused(lambda: ptq4dit.load(tmp_path / "model"))
    assert not (tmp_path / "model" / "ran").exists()


def test_infinity_is_a_number_of_some_schedulers(folder, tmp_path):
    """diffusers writes ``lambda_min_clipped: -Infinity`` for a multistep solver, and its pipelines ship with it."""
    shutil.copytree(folder, tmp_path / "model")
    diffusers.DPMSolverMultistepScheduler().save_pretrained(tmp_path / "model" / "scheduler")
    field(INDEX, scheduler=["diffusers", "DPMSolverMultistepScheduler"])(tmp_path / "model")
    assert type(ptq4dit.load(tmp_path / "model").scheduler) is diffusers.DPMSolverMultistepScheduler


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_what_is_not_finite_is_no_picture(part, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    path = tmp_path / "model" / part / "diffusion_pytorch_model.safetensors"
    save_file({name: value * NAN for name, value in load_file(path).items()}, path, {"format": "pt"})
    assert "got nan or infinity" in refused(lambda: ptq4dit.generate(ptq4dit.load(tmp_path / "model"), [0], steps=2))


def test_too_large_a_guidance_is_no_picture(dit):
    assert "guidance scale is too large" in refused(lambda: ptq4dit.generate(dit, [0], steps=4, guidance_scale=1e30))


def test_a_model_under_its_former_name_is_read(folder, dit, tmp_path):
    """As the authors' models on the hub, whose class diffusers has since split."""
    shutil.copytree(folder, tmp_path / "model")
    former = {"norm_type": "ada_norm_zero", "cross_attention_dim": None, "num_vector_embeds": None}
    field(TRANSFORMER, _class_name="Transformer2DModel", **former)(tmp_path / "model")
    field(INDEX, transformer=["diffusers", "Transformer2DModel"])(tmp_path / "model")
    loaded = ptq4dit.load(tmp_path / "model").transformer
    assert type(loaded) is type(dit.transformer)
    assert torch.equal(loaded.proj_out_2.weight, dit.transformer.proj_out_2.weight)
