"""Every other transformer: its repeated blocks are found, and linears that are given one tensor are one site."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from ptq4dit.model.families.absorber import InputFactor
from ptq4dit.model.families.family import Call, Family, Site
from ptq4dit.model.families.plain import require_whole
from ptq4dit.model.hooks import Hooks, first_argument

UNKNOWN = InputFactor(why="no file says what stands in front")
_SEEN = "_ptq4dit_inputs"
"""Where a watched model keeps which linears read one tensor: a plain attribute, so that copies of the model keep it."""


@dataclass(frozen=True, kw_only=True)
class Generic(Family):
    """The family of models that no file knows; nothing is folded, the rounding takes every factor."""

    def sites(self, transformer: nn.Module, call: Call | None = None) -> dict[str, Site]:
        """Every linear and 1x1 convolution inside the repeated blocks, by site.

        Args:
            transformer: any float model.
            call: run once, to see which linears are given the same tensor; those of one block are one site. Linears
                that are given one row an image, ``(batch, channel)``, make modulations and are left. What was seen
                stays with the model and its copies. Without it, on a model never watched, every linear is a site.

        Raises:
            ValueError: if no repeated blocks are found, their projections are fused, or an adapter is attached.
        """
        require_whole(transformer)
        if call is not None:
            with watching(transformer):
                call.on(transformer)
        inside = _linears(transformer, self.blocks(transformer))
        seen: dict[str, tuple[int, ...]] | None = getattr(transformer, _SEEN, None)
        groups: dict[Any, list[str]] = {}
        for path in inside if seen is None else (path for path in seen if path in inside):
            groups.setdefault(path if seen is None else (inside[path], seen[path]), []).append(path)
        sites = (_site(inside[paths[0]], tuple(paths)) for paths in groups.values())
        return {site.name: site for site in sites}

    def blocks(self, transformer: nn.Module) -> list[str]:
        """The children of every ``nn.ModuleList`` whose children share a class and hold linears; outermost first."""
        found: list[str] = []
        for path, module in transformer.named_modules():
            inside = any(path.startswith(f"{block}.") for block in found)
            if isinstance(module, nn.ModuleList) and not inside and _repeats(module):
                found += [f"{path}.{i}" for i in range(len(module))]
        if not found:
            raise ValueError(
                f"Expected a transformer with repeated blocks (a ModuleList of one class), got a "
                f"{type(transformer).__name__} without any. Pass the denoising transformer of a pipeline."
            )
        return found


def recall(transformer: nn.Module, sites: Mapping[str, tuple[str, ...]]) -> None:
    """Have a model remember which linears read one tensor, as another copy of it was seen to do.

    Args:
        transformer: a model that no file describes; those that are described need nothing.
        sites: site name -> paths, from a calibration or a checkpoint.
    """
    if sites and not hasattr(transformer, _SEEN):
        setattr(transformer, _SEEN, {path: (index,) for index, paths in enumerate(sites.values()) for path in paths})


@contextmanager
def watching(transformer: nn.Module) -> Iterator[None]:
    """See which linears read one tensor in whatever forwards run inside; the model remembers the last ones that ran."""
    names: WeakIdKeyDictionary = WeakIdKeyDictionary()  # a tensor that is gone cannot be confused with a later one
    seen: dict[str, tuple[int, ...]] = {}
    count = 0

    def note(path: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal count
        given = first_argument(args, kwargs)
        if given.ndim < 3:
            return
        if given not in names:
            count += 1
            names[given] = count
        seen[path] = (*seen.get(path, ()), names[given])

    inside = _linears(transformer, FAMILY.blocks(transformer))
    with Hooks() as hooks:
        for path in inside:
            hooks.before(transformer.get_submodule(path), partial(note, path))
        yield
    if seen:
        setattr(transformer, _SEEN, seen)


def _repeats(modules: nn.ModuleList) -> bool:
    first = next(iter(modules), None)
    if first is None or isinstance(first, nn.Linear | nn.Conv2d):
        return False
    return all(type(module) is type(first) for module in modules) and any(map(_is_linear, first.modules()))


def _is_linear(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.stride == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _linears(transformer: nn.Module, blocks: list[str]) -> dict[str, str]:
    return {
        f"{block}.{path}": block
        for block in blocks
        for path, module in transformer.get_submodule(block).named_modules()
        if _is_linear(module)
    }


def _site(block: str, paths: tuple[str, ...]) -> Site:
    """Named after the block and the linears: ``"transformer_blocks.3.attn1_to_q_to_k_to_v"``."""
    words = [path.removeprefix(f"{block}.").split(".") for path in paths]
    parent = words[0][:-1]
    shared = [word[:-1] == parent for word in words]
    rest = [word[-1] if same else "_".join(word) for word, same in zip(words[1:], shared[1:], strict=True)]
    role = "_".join(["_".join(words[0]), *rest])
    return Site(name=f"{block}.{role}", role=role, paths=paths, absorber=UNKNOWN, block=block)


FAMILY = Generic(name="generic", classes=(), stacks=(), left={})
