"""What text-conditioned models are asked for: prompts, the default list, and prompts that text encoders have read."""

import ast
import inspect
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from ptq4dit.model.bundle import Bundle
from ptq4dit.model.pipelines import text_encoders

if TYPE_CHECKING:
    Prompts: TypeAlias = "Sequence[str] | EncodedPrompts"
else:
    Prompts = Any
"""What is taken for prompts; looked at by `require_prompts`, which says what is wrong in a sentence."""

_AT_ONCE = 8
"""Prompts that the encoders read together: what they need in memory stays small."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedPrompts:
    """Prompts as the text encoders see them.

    Attributes:
        arguments: what the pipeline's call takes: ``"prompt_embeds"`` and its kin, each a tensor (or list) with a row
            for every prompt.
    """

    arguments: Mapping[str, Any]

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.arguments["prompt_embeds"])

    def __getitem__(self, rows: slice | Sequence[int]) -> "EncodedPrompts":
        """Some of the prompts, in the given order."""
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        return EncodedPrompts(
            arguments={
                name: value[list(chosen)] if isinstance(value, Tensor) else [value[i] for i in chosen]
                for name, value in self.arguments.items()
            }
        )


def default_prompts() -> list[str]:
    """The prompts that ship with the package: short and varied, for a calibration that is given none."""
    return _lines(resources.files("ptq4dit").joinpath("sampling/prompts.txt").read_text(encoding="utf-8"))


def read_prompts(path: str | os.PathLike[str]) -> list[str]:
    """One prompt a line; empty lines are left out.

    Raises:
        ValueError: if the file cannot be read as text, or holds no prompt.
    """
    try:
        prompts = _lines(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected a text file with a prompt a line, got {os.fspath(path)!r}: {error}") from error
    if not prompts:
        raise ValueError(f"Expected at least one prompt in {os.fspath(path)!r}, got an empty file.")
    return prompts


def require_prompts(prompts: Prompts) -> None:
    """Refuse what is no list of prompts.

    Raises:
        ValueError: for one string, an empty list, or things that are no strings.
    """
    if isinstance(prompts, str):
        raise ValueError(f"Expected a list of prompts, got one string. Write prompts=[{prompts[:40]!r}].")
    if isinstance(prompts, EncodedPrompts):
        if "prompt_embeds" not in prompts.arguments:
            raise ValueError(f"Expected 'prompt_embeds' in encoded prompts, got {sorted(prompts.arguments)}.")
    elif not isinstance(prompts, Sequence):
        raise ValueError(f"Expected a list of prompts, got {type(prompts).__name__}.")
    if not len(prompts):
        raise ValueError("Expected at least one prompt, got none.")
    strange = [] if isinstance(prompts, EncodedPrompts) else [p for p in prompts if not isinstance(p, str)]
    if strange:
        raise ValueError(f"Expected prompts to be strings, got {strange[0]!r} of type {type(strange[0]).__name__}.")


@torch.no_grad()
def encode_prompts(model: Bundle, prompts: Sequence[str], options: Mapping[str, Any] | None = None) -> EncodedPrompts:
    """Run the text encoders once for all prompts, as the pipeline itself would.

    The result goes where prompts go: ``denoise(model, prompts=encoded[:4])``. After that the encoders are not needed,
    see `free_text_encoders`.

    Args:
        model: a text-conditioned bundle.
        prompts: one or more.
        options: arguments of the pipeline's call, such as ``negative_prompt``; they go before ``model.options``.

    Raises:
        ValueError: for no prompts, a model that takes none, freed encoders, or a pipeline that cannot encode apart.
    """
    if not model.text_conditioned:
        raise ValueError(f"Expected a text-conditioned model, got a {model.kind}, which takes class labels.")
    require_prompts(prompts)
    pipeline = model.pipeline
    require_encoders(pipeline)
    given = {**model.options, **(options or {})}
    parts = [_encoded(pipeline, list(prompts[i : i + _AT_ONCE]), given) for i in range(0, len(prompts), _AT_ONCE)]
    return EncodedPrompts(arguments={name: _joined([part[name] for part in parts]) for name in parts[0]})


def free_text_encoders(model: Bundle) -> None:
    """Let go of the text encoders of a bundle, and of all that were made from it; encoded prompts are not affected.

    Their memory is free again as soon as nobody else holds them: a live pipeline that was loaded keeps its own.
    """
    if model.stock is not None:
        for name in text_encoders(model.stock):
            vars(model.stock)[name] = None
        vars(model.stock)["text_encoders_freed"] = True


def require_encoders(pipeline: Any) -> None:
    """Refuse a pipeline without text encoders, or whose own were freed.

    Raises:
        ValueError: if it has none.
    """
    if vars(pipeline).get("text_encoders_freed"):
        raise ValueError(
            "Expected a model with its text encoders, got one whose encoders were freed. Pass what "
            "ptq4dit.encode_prompts gave before that, or load the model again."
        )
    if not text_encoders(pipeline):
        raise ValueError(
            f"Expected a pipeline with a text encoder to read prompts, got a {type(pipeline).__name__} with none. Save "
            "the whole pipeline, or run your own loop inside `with ptq4dit.watch(pipeline.transformer)`."
        )


@cache
def encoded_names(pipeline_class: Any) -> tuple[str, ...]:
    """Names of what a pipeline's ``encode_prompt`` returns, in order.

    diffusers names them as its calls do, and nowhere but in the return statement: it is read there.

    Raises:
        ValueError: if the pipeline has no such method, or returns something else than names.
    """
    method = getattr(pipeline_class, "encode_prompt", None)
    tree = ast.parse(textwrap.dedent(inspect.getsource(method))) if method is not None else ast.Module([], [])
    returned = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value is not None]
    last = returned[-1] if returned else None
    parts = last.elts if isinstance(last, ast.Tuple) else [last]
    names = tuple(part.id for part in parts if isinstance(part, ast.Name))
    if len(names) != len(parts) or "prompt_embeds" not in names:
        raise ValueError(
            f"Expected a pipeline that encodes prompts apart from drawing, got {pipeline_class.__name__}. Pass prompts "
            "as text instead."
        )
    return names


def _encoded(pipeline: Any, prompts: list[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The embeddings of a few prompts, and of their negative ones, under the names of the call's arguments."""
    call = inspect.signature(type(pipeline).__call__).parameters
    found = _named(pipeline, prompts, given)
    negative = given.get("negative_prompt")
    if negative is not None and "negative_prompt_embeds" not in found and "negative_prompt_embeds" in call:
        texts = [negative] * len(prompts) if isinstance(negative, str) else list(negative)
        found |= {f"negative_{name}": value for name, value in _named(pipeline, texts, given).items()}
    return {name: value for name, value in found.items() if value is not None and name in call}


def _named(pipeline: Any, prompts: list[str], given: Mapping[str, Any]) -> dict[str, Any]:
    names = encoded_names(type(pipeline))  # type: ignore[arg-type]
    call = inspect.signature(type(pipeline).__call__).parameters
    takes = inspect.signature(pipeline.encode_prompt).parameters
    settings = {
        name: given.get(name, call[name].default)
        for name in takes
        if name in call and name not in ("self", "prompt") and "embeds" not in name and "mask" not in name
    }
    if "do_classifier_free_guidance" in takes:
        settings["do_classifier_free_guidance"] = True
    if "device" in takes:
        settings["device"] = pipeline._execution_device
    result = pipeline.encode_prompt(prompt=prompts, **settings)
    return dict(zip(names, result if isinstance(result, tuple) else (result,), strict=True))


def _joined(parts: list[Any]) -> Any:
    """Rows below each other, shorter sequences filled with zeros."""
    if isinstance(parts[0], list):
        return [row for part in parts for row in part]
    if parts[0].ndim < 2 or len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(parts)
    longest = max(part.shape[1] for part in parts)
    filled = []
    for part in parts:
        whole = part.new_zeros(len(part), longest, *part.shape[2:])
        whole[:, : part.shape[1]] = part
        filled.append(whole)
    return torch.cat(filled)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
