"""A diffusion transformer with all that is needed to make pictures with it, and how it is loaded."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, DiTPipeline, DiTTransformer2DModel

from ptq4dit.model.families.plain import FLOATS
from ptq4dit.model.frequencies import Frequencies, frequencies_of, set_frequencies, trained_with
from ptq4dit.model.official import VAE, LazyVae, imagenet_labels, is_official, load_official, official_scheduler
from ptq4dit.model.pipelines import (
    call_options,
    read_pipeline,
    source_name,
    takes,
    text_encoders,
    with_parts,
    without_transformer,
)
from ptq4dit.model.streamed import any_streamed, device_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A diffusion transformer, float or quantized, with what is needed to make pictures with it.

    Attributes:
        transformer: a diffusers transformer; after `ptq4dit.quantize` its block linears are quantized. On the integer
            backend an object that is called like it.
        vae: the autoencoder, or a `LazyVae` that becomes one when it is first used.
        scheduler: the diffusers scheduler that the model comes with; never modified.
        id2label: class index -> name; empty for a text-conditioned model.
        source: where it was loaded from.
        noise_correction: what the sampler takes out of a quantized model's noise prediction (PTQD); None for nothing.
        stock: the diffusers pipeline that it was loaded as, without its transformer; None for a DiT made of parts.
        options: what the pipeline's call is given beyond its own defaults, ``{"height": 512}``.
    """

    transformer: Any = field(repr=False)
    vae: Any = field(repr=False)
    scheduler: Any = field(repr=False)
    id2label: Mapping[int, str] = field(default_factory=dict)
    source: str = "memory"
    noise_correction: Any = None
    stock: Any = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Any:
        """The transformer's diffusers config."""
        return self.transformer.config

    @property
    def text_conditioned(self) -> bool:
        """Whether it draws what a prompt says, not a class."""
        return self.stock is not None and "class_labels" not in takes(self.stock)

    @property
    def kind(self) -> str:
        """Name of its pipeline, for messages: ``"StableDiffusion3Pipeline"``."""
        return "DiTPipeline" if self.stock is None else type(self.stock).__name__

    @property
    def pipeline(self) -> Any:
        """The stock diffusers pipeline around the present transformer, autoencoder and scheduler.

        A new object at each time, that shares all its parts; changing its attributes changes nothing here.
        """
        vae = self.vae.loaded if isinstance(self.vae, LazyVae) else self.vae
        parts = {"transformer": self.transformer, "vae": vae, "scheduler": self.scheduler}
        if self.stock is None:
            return with_parts(DiTPipeline(**parts, id2label=dict(self.id2label)))
        return with_parts(self.stock, **parts)

    @property
    def family(self) -> Any:
        """The family of the transformer, see `ptq4dit.model.families.registry`."""
        from ptq4dit.model.families.registry import family_of

        return family_of(self.torch_transformer)

    @property
    def num_classes(self) -> int:
        """Number of classes, the null class not counted.

        Raises:
            ValueError: for a text-conditioned model.
        """
        self._require_classes()
        return int(self.config.num_embeds_ada_norm)

    @property
    def null_class(self) -> int:
        """Class index that means "no class", the unconditional half of guidance.

        Raises:
            ValueError: for a text-conditioned model.
        """
        self._require_classes()
        return int(self.config.num_embeds_ada_norm)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one image's latents: (channels, height, width), at the size that the transformer names.

        Raises:
            ValueError: if its config names no size, as for FLUX, whose pictures may have any.
        """
        size = self.config.get("sample_size")
        if not isinstance(size, int):
            raise ValueError(
                f"Expected a transformer with a sample_size, got {type(self.torch_transformer).__name__}, which draws "
                "any size. Look at the latents of a step instead."
            )
        return int(self.config.in_channels), size, size

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return device_of(self.transformer)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the transformer."""
        return next(self.transformer.parameters()).dtype

    @property
    def frequencies(self) -> Frequencies:
        """How timestep frequencies are spaced: ``"diffusers"``, or ``"official"`` for the authors' weights."""
        return "diffusers" if self.text_conditioned else frequencies_of(self.torch_transformer)

    @property
    def torch_transformer(self) -> Any:
        """The transformer as diffusers' model: itself, or the simulated twin of one that runs on integers."""
        return getattr(self.transformer, "twin", self.transformer)

    def with_transformer(self, transformer: Any) -> "Bundle":
        """The same bundle with another transformer."""
        return dataclasses.replace(self, transformer=transformer)

    def to(self, device: str | torch.device) -> "Bundle":
        """Move every model of the bundle, in place as torch does; returns the bundle."""
        encoders = [] if self.stock is None else [vars(self.stock)[name] for name in text_encoders(self.stock)]
        for part in (self.transformer, self.vae, *encoders):
            part.to(device)
        return self

    def _require_classes(self) -> None:
        if self.text_conditioned:
            raise ValueError(f"Expected a class-conditional model, got a {self.kind}, which is given prompts.")


Dit = Bundle
"""The former name of `Bundle`."""


def load(
    source: str | os.PathLike[str] | DiffusionPipeline,
    dtype: torch.dtype | str | None = None,
    device: str | torch.device | None = None,
    *,
    frequencies: Frequencies | None = None,
    vae: str = VAE,
    heads: int | None = None,
    variant: str | None = None,
    options: Mapping[str, Any] | None = None,
    offload_folder: str | os.PathLike[str] | None = None,
) -> Bundle:
    """Load a diffusers pipeline of any family, an official DiT file, or take a live pipeline.

    Args:
        source: a folder with ``model_index.json``, a hub id such as ``"facebook/DiT-XL-2-256"``, a file such as
            ``"DiT-XL-2-256x256.pt"``, or a diffusers pipeline. A live pipeline is left as it is, and shares its parts.
        dtype: floating type to load into, or its name, whatever the files hold; None for float32, which is several
            times faster on a CPU than half precision.
        device: where to put the models; None for the CPU.
        frequencies: spacing of a DiT's timestep frequencies; None for that which the weights were trained with, see
            `frequencies.trained_with`.
        vae: folder or hub id of the autoencoder for an official file, which brings none; fetched when first used.
        heads: attention heads of an official file, see `official.architecture`.
        variant: which files of a folder or repository, such as ``"fp16"``; None for the plain ones, or the only ones.
        options: what the pipeline's call is given beyond its own defaults, such as ``{"height": 512, "width": 512}``.
        offload_folder: for the weights of the transformer's blocks, each of which is read as it is called: for models
            that do not fit in memory. It takes as much room on disk as they do.

    Returns:
        The bundle, in evaluation mode.

    Raises:
        ValueError: if there is no such folder, file or repository, or it holds something without a transformer.
    """
    if offload_folder is not None and (isinstance(source, DiffusionPipeline) or is_official(source_name(source))):
        raise ValueError("Expected a folder or hub id with offload_folder, got a live pipeline or an official file.")
    if isinstance(source, DiffusionPipeline):
        return _taken(source, dtype, device, frequencies, options)
    name, kind, place = source_name(source), as_dtype(dtype or torch.float32), device or "cpu"
    if is_official(name):
        _require_no_options(options)
        transformer = load_official(Path(name), kind, heads)
        autoencoder, scheduler = LazyVae(vae, kind, place), official_scheduler()
        id2label = imagenet_labels() if int(transformer.config.num_embeds_ada_norm) == 1000 else {}
        set_frequencies(transformer, frequencies or trained_with(name))
        return bundle(transformer.to(place).eval(), autoencoder, scheduler, id2label=id2label, source=name)
    offload = None if offload_folder is None else (Path(offload_folder), torch.device(place))
    pipeline, index = read_pipeline(name, kind, variant, offload)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            (part if any_streamed(part) else part.to(place)).eval()
    return _of_pipeline(pipeline, name, frequencies or trained_with(name), index, options)


def _taken(
    pipeline: DiffusionPipeline,
    dtype: torch.dtype | str | None,
    device: str | torch.device | None,
    frequencies: Frequencies | None,
    options: Mapping[str, Any] | None,
) -> Bundle:
    """A live pipeline, which is the caller's: nothing of it is moved or converted."""
    if getattr(pipeline, "transformer", None) is None:
        raise ValueError(f"Expected a pipeline with a transformer, got a {type(pipeline).__name__} without one.")
    first = next(pipeline.transformer.parameters())
    if dtype is not None and as_dtype(dtype) != first.dtype:
        raise ValueError(f"Expected dtype=None for a live pipeline, got {dtype!r}. Call pipeline.to(dtype) first.")
    if device is not None and torch.device(device).type != first.device.type:
        raise ValueError(
            f"Expected device=None for a live pipeline, got {str(device)!r}. Call pipeline.to(device) first."
        )
    return _of_pipeline(pipeline, type(pipeline).__name__, frequencies, None, options)


def _of_pipeline(
    pipeline: Any,
    source: str,
    frequencies: Frequencies | None,
    index: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
) -> Bundle:
    transformer, labels = pipeline.transformer, {}
    if "class_labels" in takes(pipeline):
        _require_no_options(options)
        if frequencies is not None:
            set_frequencies(transformer, frequencies)
        names = (index or {}).get("id2label") or {number: name for name, number in pipeline.labels.items()}
        labels, options = _labels(transformer, names), {}
    return Bundle(
        transformer=transformer,
        vae=pipeline.vae,
        scheduler=pipeline.scheduler,
        id2label=labels,
        source=source,
        stock=without_transformer(pipeline),
        options={} if labels else {**call_options(pipeline, index), **(options or {})},
    )


def bundle(
    transformer: DiTTransformer2DModel,
    vae: Any,
    scheduler: Any,
    id2label: Mapping[int, str] | Mapping[str, str] | None = None,
    source: str = "memory",
) -> Bundle:
    """Put the loaded parts of a class-conditional DiT together.

    Args:
        transformer: a diffusers ``DiTTransformer2DModel``.
        vae: a diffusers ``AutoencoderKL``.
        scheduler: a diffusers scheduler.
        id2label: class index -> name; missing names become ``"class <i>"``.
        source: where they came from, for messages and manifests.
    """
    labels = _labels(transformer, id2label or {})
    return Bundle(transformer=transformer, vae=vae, scheduler=scheduler, id2label=labels, source=source)


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A floating type by itself or by name: ``"bfloat16"``, ``"torch.float16"``.

    Raises:
        ValueError: if it is none.
    """
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if found not in FLOATS:
        raise ValueError(f"Expected a floating type such as torch.float32 or 'bfloat16', got {dtype!r}.")
    return found


def _labels(transformer: Any, id2label: Mapping[Any, Any]) -> dict[int, str]:
    names, classes = {int(key): str(value) for key, value in id2label.items()}, transformer.config.num_embeds_ada_norm
    if not classes or classes < 1:
        raise ValueError(
            f"Expected a DiT with at least one class, got num_embeds_ada_norm={classes}: there is nothing to draw."
        )
    return {i: names.get(i, f"class {i}") for i in range(int(classes))}


def _require_no_options(options: Mapping[str, Any] | None) -> None:
    if options:
        raise ValueError(f"Expected no pipeline options for a class-conditional model, got {sorted(options)}.")
