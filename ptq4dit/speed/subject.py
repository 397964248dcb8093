"""The model that is measured, written to a folder from which every contestant and every child process reads it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from ptq4dit.calibration.run import calibrate
from ptq4dit.calibration.statistics import Calibration
from ptq4dit.calibration.trajectories import collect
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.model.bundle import Dit, bundle, load
from ptq4dit.model.frequencies import set_frequencies
from ptq4dit.model.loading import loading
from ptq4dit.speed.config import XL, SpeedConfig
from ptq4dit.storage.provenance import portable_source

_OWN = "own_inputs.safetensors"
_OWN_TIMESTEPS, _OWN_IMAGES = 8, 2
_XL = {
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "num_layers": 28,
    "in_channels": 4,
    "out_channels": 8,
    "sample_size": 32,
    "patch_size": 2,
    "num_embeds_ada_norm": 1000,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """One forward pass's inputs: latents, and a timestep and a class for every row."""

    latents: Float[Tensor, "row channel height width"]
    timesteps: Int[Tensor, " row"]
    labels: Int[Tensor, " row"]

    def cast(self, dtype: torch.dtype) -> "Inputs":
        """The same with other latents."""
        return Inputs(latents=self.latents.to(dtype), timesteps=self.timesteps, labels=self.labels)

    def split(self, rows: int) -> list["Inputs"]:
        """The same in parts of so many rows; the last may have fewer."""
        parts = zip(*(value.split(rows) for value in (self.latents, self.timesteps, self.labels)), strict=True)
        return [Inputs(latents=latents, timesteps=timesteps, labels=labels) for latents, timesteps, labels in parts]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A float DiT in a folder, with its calibration.

    Attributes:
        folder: holds ``transformer/``, ``calibration.safetensors`` and ``subject.json``; of a whole model that was
            trained ``own_inputs.safetensors``, too.
    """

    folder: Path

    @property
    def about(self) -> dict[str, Any]:
        """Where it comes from and how large it is."""
        return json.loads((self.folder / "subject.json").read_text(encoding="utf-8"))

    def transformer(self) -> Any:
        """The float model, in evaluation mode."""
        return self.transformer_of(self.folder / "transformer", torch.float32)

    def transformer_of(self, folder: Path, dtype: torch.dtype) -> Any:
        """The model in another type, from the folder that it was saved to."""
        with loading():
            made = DiTTransformer2DModel.from_pretrained(folder, dtype=dtype)
        set_frequencies(made, self.about["frequencies"])
        return made.eval()

    def dit(self) -> Dit:
        """A bundle around it; its autoencoder is a small stand-in, as no picture is drawn."""
        return bundle(self.transformer(), _small_vae(), DDIMScheduler(clip_sample=False), source=self.about["source"])

    def calibration(self) -> Calibration:
        """Its calibration."""
        return Calibration.load(self.folder / "calibration.safetensors")

    def inputs(self, batch: int, seed: int = 0) -> Inputs:
        """Seeded noise, timesteps spread over all of them, classes in turn, the null class among them."""
        config = json.loads((self.folder / "transformer" / "config.json").read_text(encoding="utf-8"))
        generator = torch.Generator().manual_seed(seed)
        side, classes = config["sample_size"], config["num_embeds_ada_norm"]
        return Inputs(
            latents=torch.randn(batch, config["in_channels"], side, side, generator=generator),
            timesteps=torch.linspace(980, 20, batch).long(),
            labels=torch.arange(classes, classes - batch, -1).clamp(min=0),
        )

    def own_inputs(self) -> Inputs | None:
        """What the float model is given while it draws; None of random weights and of a model that was shortened."""
        file = self.folder / _OWN
        return Inputs(**load_file(file)) if file.is_file() else None


def prepare(config: SpeedConfig, folder: Path) -> Subject:
    """Write the model, shortened as asked, and a calibration: its own if it has one for all of it, else a quick one.

    A folder that holds them from before stays as it is.

    Raises:
        ValueError: if the model cannot be loaded, or the folder holds another one.
    """
    asked = {"source": config.source, "blocks": config.blocks, "seed": config.seed}
    asked |= {name: value for name in ("heads", "side") if (value := getattr(config, name)) is not None}
    request = folder / "request.json"
    if request.is_file():
        if json.loads(request.read_text(encoding="utf-8")) != asked:
            raise ValueError(
                f"Expected {str(folder)!r} to be empty or made for {asked}, got {request.read_text(encoding='utf-8')}."
            )
        return Subject(folder=folder)
    dit = _random_xl(config) if config.source == XL else load(config.source)
    whole = len(dit.transformer.transformer_blocks)
    blocks = min(config.blocks or whole, whole)
    if blocks < whole:
        dit.transformer.transformer_blocks = dit.transformer.transformer_blocks[:blocks]
        dit.transformer.register_to_config(num_layers=blocks)
    dit.transformer.save_pretrained(folder / "transformer", max_shard_size="50GB")
    own = Path(config.source) / "calibration.safetensors"
    quick = CalibrationConfig(timesteps=2, samples_per_timestep=1, steps=2, seed=config.seed)
    stats = Calibration.load(own) if own.is_file() and blocks == whole else calibrate(dit, quick)
    stats.save(folder / "calibration.safetensors")
    if config.source != XL and blocks == whole:
        _save_own_inputs(config, dit, folder)
    about = {
        "source": _told(config),
        "random_weights": config.source == XL,
        "frequencies": dit.frequencies,
        "blocks": blocks,
        "blocks_of_model": whole,
        "width": int(dit.config.num_attention_heads * dit.config.attention_head_dim),
        "tokens": int(dit.config.sample_size // dit.config.patch_size) ** 2,
        "parameters": sum(p.numel() for p in dit.transformer.parameters()),
        "calibration": json.loads(stats.config.to_json()),
    }
    (folder / "subject.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    request.write_text(json.dumps(asked), encoding="utf-8")
    return Subject(folder=folder)


def _told(config: SpeedConfig) -> str:
    if config.source != XL:
        return portable_source(config.source)
    own = config.heads is None and config.side is None
    return f"DiT-XL/2's {'sizes' if own else 'kind'}, random weights"


def _save_own_inputs(config: SpeedConfig, dit: Dit, folder: Path) -> None:
    """Two seeded pictures at timesteps from the first to the last, both halves of guidance; not the calibration's."""
    asked = CalibrationConfig(
        timesteps=min(_OWN_TIMESTEPS, config.steps),
        samples_per_timestep=_OWN_IMAGES,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        seed=config.seed + 1,
    )
    data = collect(dit, asked)
    labels = data.conditions["class_labels"]
    assert isinstance(labels, Tensor)
    save_file({"latents": data.latents, "timesteps": data.timesteps.long(), "labels": labels}, folder / _OWN)


def _random_xl(config: SpeedConfig) -> Dit:
    """Seeded weights of a trained model's orders of magnitude; every block holds the same embedders."""
    sizes = dict(_XL)
    given = {"num_layers": config.blocks, "num_attention_heads": config.heads, "sample_size": config.side}
    for name, asked in given.items():
        sizes |= {} if asked is None else {name: asked}
    sizes["num_layers"] = min(sizes["num_layers"], _XL["num_layers"])
    torch_state = torch.get_rng_state()
    torch.manual_seed(config.seed)
    transformer = DiTTransformer2DModel(**sizes).eval()
    torch.set_rng_state(torch_state)
    first, *others = (block.norm1.emb for block in transformer.transformer_blocks)
    for other in others:
        other.load_state_dict(first.state_dict())
    return bundle(transformer, _small_vae(), DDIMScheduler(clip_sample=False), source=XL)


def _small_vae() -> AutoencoderKL:
    return AutoencoderKL(latent_channels=4, block_out_channels=(8,), norm_num_groups=4)
