"""Diffusers' pipelines as this package holds them: read from a folder or the hub, kept without their transformer."""

import copy
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

_SIZES = (16, 32, 64, 128, 256)
"""Latent sizes for which pipelines that bin resolutions have bins."""


def read_pipeline(
    name: str, dtype: torch.dtype, variant: str | None = None
) -> tuple[DiffusionPipeline, Mapping[str, Any]]:
    """A pipeline of whatever class its ``model_index.json`` names, on the CPU, and what that file says.

    Args:
        name: a folder, or a hub id.
        dtype: floating type of all its models.
        variant: files such as ``"fp16"``; None for the plain ones, or the only ones that there are.

    Raises:
        ValueError: if there is no such pipeline, it cannot be read, or it has no transformer.
    """
    _require_folder(name)
    try:
        index = DiffusionPipeline.load_config(name)
        _require_transformer(name, index)
        names = {int(key): str(value) for key, value in (index.get("id2label") or {}).items()}
        given: dict[str, Any] = {"id2label": names} if names else {}
        given |= {part: None for part, kind in index.items() if kind == [None, None]}  # saved without it
        return _from_pretrained(name, dtype, variant, given), index
    except (OSError, ImportError, AttributeError) as error:
        raise ValueError(
            f"Expected a folder with a diffusers pipeline or a reachable hub id, got {name!r}, which could not be "
            f"read: {first_line(error)}"
        ) from error


def _from_pretrained(name: str, dtype: torch.dtype, variant: str | None, given: Mapping[str, Any]) -> Any:
    if variant is not None:
        return DiffusionPipeline.from_pretrained(name, dtype=dtype, variant=variant, **given)
    if Path(name).is_dir():
        return DiffusionPipeline.from_pretrained(name, dtype=dtype, variant=_only_variant(Path(name)), **given)
    try:
        return DiffusionPipeline.from_pretrained(name, dtype=dtype, **given)
    except OSError:
        try:
            return DiffusionPipeline.from_pretrained(name, dtype=dtype, variant="fp16", **given)
        except (OSError, ValueError):
            pass
        raise


def _only_variant(folder: Path) -> str | None:
    """The variant of a folder in which some component has no plain weights; None if every one has."""
    for component in sorted(path for path in folder.iterdir() if path.is_dir()):
        weights = [file.name for kind in ("safetensors", "bin") for file in component.glob(f"*.{kind}")]
        stems = {name.split("-0")[0].rsplit(".safetensors", 1)[0].rsplit(".bin", 1)[0] for name in weights}
        variants = sorted(stem.split(".")[1] for stem in stems if "." in stem)
        if variants and all("." in stem for stem in stems):
            return "fp16" if "fp16" in variants else variants[0]
    return None


def _require_folder(name: str) -> None:
    path = Path(name)
    if path.is_file() or (path.is_dir() and not (path / "model_index.json").is_file()):
        raise ValueError(
            f"Expected a diffusers pipeline folder with model_index.json, got {name!r}. "
            "Save one with pipeline.save_pretrained(...), or give a hub id."
        )


def _require_transformer(name: str, index: Mapping[str, Any]) -> None:
    if "transformer" not in index:
        raise ValueError(
            f"Expected a pipeline with a transformer, got a {index.get('_class_name')} in {name!r}, which has none."
        )


def without_transformer(pipeline: DiffusionPipeline) -> Any:
    """A copy of a pipeline, all settings kept, that does not keep its transformer in memory."""
    shell = copy.copy(pipeline)
    vars(shell)["transformer"] = None
    return shell


def with_parts(shell: Any, **parts: Any) -> Any:
    """A pipeline of the same class and settings around other parts; silent: it shows no progress bar."""
    pipeline = copy.copy(shell)
    vars(pipeline).update(parts)
    pipeline.set_progress_bar_config(**{**getattr(shell, "_progress_bar_config", {}), "disable": True})
    return pipeline


def text_encoders(pipeline: Any) -> list[str]:
    """Names of the text encoders that a pipeline has."""
    return [name for name, part in vars(pipeline).items() if name.startswith("text_encoder") and _is_module(part)]


def takes(pipeline: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments of a pipeline's call."""
    return inspect.signature(type(pipeline).__call__).parameters


def call_options(pipeline: Any, index: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a pipeline is called with beyond its own defaults, where these do not fit its model.

    - ``max_sequence_length``: what the model was trained with, if ``model_index.json`` or the transformer's config
      records it. A Stable Diffusion 3 without its third text encoder gets as many zero tokens as its first tokenizer
      reads at most, instead of 256.
    - no bins of resolutions for a transformer of a size that has none.

    Args:
        pipeline: with its transformer.
        index: its ``model_index.json``, if it has one.
    """
    known, config, options = takes(pipeline), pipeline.transformer.config, {}
    if "max_sequence_length" in known:
        length = (index or {}).get("max_sequence_length", config.get("max_sequence_length"))
        if length is None and "text_encoder_3" in pipeline.config and pipeline.text_encoder_3 is None:
            length = pipeline.tokenizer_max_length
        if length is not None:
            options["max_sequence_length"] = int(length)
    size = config.get("sample_size")
    if "use_resolution_binning" in known and isinstance(size, int) and size not in _SIZES:
        pixels = size * int(pipeline.vae_scale_factor)
        options |= {"use_resolution_binning": False, "height": pixels, "width": pixels}
    return options


def first_line(error: BaseException) -> str:
    """What an error says, in one plain line: no colours, no list of remedies for another program."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def source_name(source: Any) -> str:
    """A path or hub id as text.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(source, str | os.PathLike):
        raise ValueError(f"Expected a path, a hub id or a diffusers pipeline, got {type(source).__name__}.")
    return os.fspath(source)


def _is_module(part: Any) -> bool:
    return isinstance(part, torch.nn.Module)
