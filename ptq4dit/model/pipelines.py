"""Diffusers' pipelines as this package holds them: read from a folder or the hub, kept without their transformer."""

import copy
import inspect
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline

from ptq4dit.config.record import short
from ptq4dit.model.folder_sizes import CONFIG, INDEX, rehearsed, require_filled, require_sizes
from ptq4dit.model.loading import loading
from ptq4dit.model.streamed import is_streamed
from ptq4dit.storage.memory import give_back_at_once
from ptq4dit.storage.strict_json import read_strict_json

_SIZES = (16, 32, 64, 128, 256)
"""Latent sizes for which pipelines that bin resolutions have bins."""


def read_pipeline(
    name: str, dtype: torch.dtype, variant: str | None = None, offload: tuple[Path, torch.device] | None = None
) -> tuple[DiffusionPipeline, Mapping[str, Any]]:
    """A pipeline of whatever class its ``model_index.json`` names, on the CPU, and what that file says.

    Sizes that its configs claim are believed as far as there are bytes for them.

    Args:
        name: a folder, or a hub id.
        dtype: floating type of all its models.
        variant: files such as ``"fp16"``; None for the plain ones, or the only ones that there are.
        offload: a folder for the weights of the transformer's blocks, and the device that runs them; None to have them
            in memory.

    Raises:
        ValueError: if there is no such pipeline, it cannot be read, lacks weights, or has no transformer.
    """
    require_folder(name)
    try:
        folder = Path(name) if Path(name).is_dir() else _fetched(name, variant)
        index = _index(name, folder)
        names = {int(key): str(value) for key, value in (index.get("id2label") or {}).items()}
        given: dict[str, Any] = {"id2label": names} if names else {}
        given |= absent_parts(index)
        _require_sound(folder, index)
        chosen = variant or _only_variant(folder)
        with loading():
            if offload is not None:
                given["transformer"] = _streamed(folder, dtype, chosen, *offload)
            pipeline = DiffusionPipeline.from_pretrained(folder, dtype=dtype, variant=chosen, **given)
        _require_weights(pipeline)
    except Exception as error:  # diffusers, transformers, safetensors and torch each have their own for damaged files
        if isinstance(error, ValueError) and str(error).startswith("Expected"):
            raise
        raise ValueError(
            f"Expected a folder with a diffusers pipeline or a reachable hub id, got {name!r}, which could not be "
            f"read: {first_line(error)}"
        ) from error
    return pipeline, index


def _fetched(name: str, variant: str | None) -> Path:
    """The folder in the hub's cache with the files of a repository that are needed; fetched where it is not there."""
    try:
        return Path(DiffusionPipeline.download(name, variant=variant))
    except (OSError, ValueError):
        if variant is None:
            with suppress(OSError, ValueError):
                return Path(DiffusionPipeline.download(name, variant="fp16"))
        raise


def _index(name: str, folder: Path) -> Mapping[str, Any]:
    index = read_strict_json(folder / INDEX)
    if not isinstance(index, dict):
        raise ValueError(f"Expected an object in {INDEX} of {name!r}, got {short(index)}.")
    kind, part = index.get("_class_name"), index.get("transformer")
    if not isinstance(part, list) or not all(isinstance(word, str) for word in part):
        said = kind if isinstance(kind, str) else short(kind)
        raise ValueError(f"Expected a pipeline with a transformer, got a {said} in {name!r}, which has none.")
    if not isinstance(kind, str) or not hasattr(diffusers, kind):
        raise ValueError(
            f"Expected a pipeline of diffusers' own, got {short(kind)} in {name!r}, whose code is not run here. Load "
            "it with diffusers and pass the live pipeline."
        )
    labels = index.get("id2label") or {}
    if not isinstance(labels, dict) or not all(key.isdecimal() and isinstance(labels[key], str) for key in labels):
        raise ValueError(f"Expected id2label in {INDEX} of {name!r} to have names by class number, got others.")
    return index


def absent_parts(index: Mapping[str, Any]) -> dict[str, None]:
    """The parts that a pipeline was saved without, such as a third text encoder, as its loader wants to be told."""
    return {part: None for part, kind in index.items() if kind == [None, None]}


def _require_sound(folder: Path, index: Mapping[str, Any]) -> None:
    """Refuse components that claim more than their files hold, before anything is built."""
    for part, kind in index.items():
        if isinstance(kind, list) and (folder / part).is_dir():
            require_sizes(folder / part, foreign=kind[:1] != ["diffusers"])
    if "quantization_config" not in read_strict_json(folder / "transformer" / CONFIG):
        model = rehearsed(folder / "transformer")
        if model is not None:
            require_filled(model, folder / "transformer")


def _streamed(folder: Path, dtype: torch.dtype, variant: str | None, place: Path, device: torch.device) -> Any:
    """The transformer of a pipeline's folder, its blocks' weights in a folder of their own."""
    model = rehearsed(folder / "transformer")
    if model is None:
        raise ValueError(f"Expected a transformer of diffusers' own, got another in {str(folder)!r}.")
    blocks = {name for name, child in model.named_children() if isinstance(child, torch.nn.ModuleList)}
    own = [name for name, _ in (*model.named_parameters(recurse=False), *model.named_buffers(recurse=False))]
    places = dict.fromkeys(own, str(device)) | {
        name: "disk" if name in blocks else str(device) for name, _ in model.named_children()
    }
    give_back_at_once()
    given: dict[str, Any] = {"dtype": dtype, "variant": variant, "device_map": places, "offload_folder": place}
    return type(model).from_pretrained(folder, subfolder="transformer", **given)  # type: ignore[attr-defined]


def _require_weights(pipeline: Any) -> None:
    for name, part in pipeline.components.items():
        modules = part.named_modules() if _is_module(part) else ()
        held = [(path, module) for path, module in modules if not is_streamed(module)]
        missing = [
            f"{path}.{own}"
            for path, module in held
            for own, value in module.named_parameters(recurse=False)
            if value.is_meta
        ]
        if missing:
            raise ValueError(
                f"Expected all weights of {name!r}, got files without {len(missing)}, such as {short(missing[0])}. "
                "Copy the whole folder again."
            )


def _only_variant(folder: Path) -> str | None:
    """The variant of a folder in which some component has no plain weights; None if every one has."""
    for component in sorted(path for path in folder.iterdir() if path.is_dir()):
        weights = [file.name for kind in ("safetensors", "bin") for file in component.glob(f"*.{kind}")]
        stems = {name.split("-0")[0].rsplit(".safetensors", 1)[0].rsplit(".bin", 1)[0] for name in weights}
        variants = sorted(stem.split(".")[1] for stem in stems if "." in stem)
        if variants and all("." in stem for stem in stems):
            return "fp16" if "fp16" in variants else variants[0]
    return None


def require_folder(name: str) -> None:
    """Refuse a file, and a folder that holds no pipeline.

    Raises:
        ValueError: if it is one.
    """
    path = Path(name)
    if path.is_file() or (path.is_dir() and not (path / "model_index.json").is_file()):
        raise ValueError(
            f"Expected a diffusers pipeline folder with model_index.json, got {name!r}. "
            "Save one with pipeline.save_pretrained(...), or give a hub id."
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
    """What an error says, in one plain sentence: no colours, no list of remedies for another program."""
    text = str(error).strip().splitlines()
    return text[0].split(". ")[0][:250] if text else type(error).__name__


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
