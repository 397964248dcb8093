"""Load a diffusion transformer with its VAE and scheduler, through diffusers' own loading code."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DiTPipeline, DiTTransformer2DModel

from ptq4dit.model.frequencies import Frequencies, frequencies_of, set_frequencies, trained_with
from ptq4dit.model.official import VAE, LazyVae, imagenet_labels, load_official, official_scheduler


@dataclass(frozen=True, kw_only=True, eq=False)
class Dit:
    """A DiT, float or quantized, with what is needed to make pictures with it.

    Attributes:
        transformer: diffusers' ``DiTTransformer2DModel``; after `ptq4dit.quantize` its block linears are quantized. On
            the integer backend an `IntegerTransformer`, which is called like it.
        vae: diffusers' ``AutoencoderKL``, or a `LazyVae` that becomes one when it is first used.
        scheduler: the diffusers scheduler that the model comes with; never modified.
        id2label: class index -> name.
        source: where it was loaded from.
        noise_correction: what the sampler takes out of a quantized model's noise prediction (PTQD); None for nothing.
    """

    transformer: Any = field(repr=False)
    vae: Any = field(repr=False)
    scheduler: Any = field(repr=False)
    id2label: Mapping[int, str]
    source: str
    noise_correction: Any = None

    @property
    def config(self) -> Any:
        """The transformer's diffusers config."""
        return self.transformer.config

    @property
    def num_classes(self) -> int:
        """Number of classes, the null class not counted."""
        return int(self.config.num_embeds_ada_norm)

    @property
    def null_class(self) -> int:
        """Class index that means "no class", the unconditional half of guidance."""
        return int(self.config.num_embeds_ada_norm)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one image's latents: (channels, height, width)."""
        return int(self.config.in_channels), int(self.config.sample_size), int(self.config.sample_size)

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return next(self.transformer.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the transformer."""
        return next(self.transformer.parameters()).dtype

    @property
    def frequencies(self) -> Frequencies:
        """How the timestep frequencies are spaced: ``"diffusers"`` or ``"official"``."""
        return frequencies_of(self.torch_transformer)

    @property
    def torch_transformer(self) -> Any:
        """The transformer as diffusers' model: itself, or the simulated twin of one that runs on integers."""
        return getattr(self.transformer, "twin", self.transformer)

    def with_transformer(self, transformer: Any) -> "Dit":
        """The same bundle with another transformer."""
        return dataclasses.replace(self, transformer=transformer)


def load(
    source: str | os.PathLike[str],
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    *,
    frequencies: Frequencies | None = None,
    vae: str = VAE,
    heads: int | None = None,
) -> Dit:
    """Load a ``DiTPipeline`` folder, a hub repository, or an official ``.pt`` file.

    Args:
        source: a local folder with ``model_index.json``, a hub id such as ``"facebook/DiT-XL-2-256"``, or a file such
            as ``"DiT-XL-2-256x256.pt"``.
        dtype: floating type to load into, whatever the files hold; half precision is several times slower on a CPU.
        device: where to put the transformer and the VAE.
        frequencies: spacing of the timestep frequencies; None for that which the weights were trained with, see
            `frequencies.trained_with`.
        vae: folder or hub id of the autoencoder for a ``.pt`` file, which brings none; fetched when first used.
        heads: attention heads of a ``.pt`` file, see `official.architecture`.

    Returns:
        The bundle, in evaluation mode.

    Raises:
        ValueError: if there is no such folder, file or repository, or it holds something other than a DiT.
    """
    name = os.fspath(source)
    if Path(name).suffix == ".pt":
        transformer = load_official(Path(name), dtype, heads)
        autoencoder, scheduler = LazyVae(vae, dtype, device), official_scheduler()
        id2label = imagenet_labels() if int(transformer.config.num_embeds_ada_norm) == 1000 else {}
    else:
        transformer, autoencoder, scheduler, id2label = _load_pipeline(name, dtype, device)
    set_frequencies(transformer, frequencies or trained_with(name))
    return bundle(transformer.to(device).eval(), autoencoder, scheduler, id2label=id2label, source=name)


def _load_pipeline(name: str, dtype: torch.dtype, device: str | torch.device) -> tuple[Any, Any, Any, dict[int, str]]:
    _require_loadable(name)
    try:
        index = DiTPipeline.load_config(name)
        _require_dit(name, index)
        id2label = {int(key): str(value) for key, value in (index.get("id2label") or {}).items()}
        pipeline = DiTPipeline.from_pretrained(name, dtype=dtype, id2label=id2label)
    except OSError as error:
        raise ValueError(
            f"Expected a DiTPipeline folder or a reachable hub id, got {name!r}, which could not be read: {error}"
        ) from error
    return pipeline.transformer, pipeline.vae.to(device).eval(), pipeline.scheduler, id2label


def bundle(
    transformer: DiTTransformer2DModel,
    vae: Any,
    scheduler: Any,
    id2label: Mapping[int, str] | Mapping[str, str] | None = None,
    source: str = "memory",
) -> Dit:
    """Put loaded parts together.

    Args:
        transformer: a diffusers ``DiTTransformer2DModel``.
        vae: a diffusers ``AutoencoderKL``.
        scheduler: a diffusers scheduler.
        id2label: class index -> name; missing names become ``"class <i>"``.
        source: where they came from, for messages and manifests.
    """
    names = {int(key): str(value) for key, value in (id2label or {}).items()}
    labels = {i: names.get(i, f"class {i}") for i in range(int(transformer.config.num_embeds_ada_norm))}
    return Dit(transformer=transformer, vae=vae, scheduler=scheduler, id2label=labels, source=source)


def _require_loadable(name: str) -> None:
    path = Path(name)
    if path.is_file() or (path.is_dir() and not (path / "model_index.json").is_file()):
        raise ValueError(
            f"Expected a DiTPipeline folder with model_index.json, got {name!r}. "
            "Save one with DiTPipeline.save_pretrained(...), or give a hub id."
        )


def _require_dit(name: str, index: Mapping[str, Any]) -> None:
    if index.get("_class_name") != "DiTPipeline":
        raise ValueError(f"Expected a DiTPipeline, got a {index.get('_class_name')} in {name!r}.")
