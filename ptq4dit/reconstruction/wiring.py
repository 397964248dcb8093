"""How the blocks of a transformer hang together: where each one's arguments come from, found in one small forward."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ptq4dit.model.families.family import Call
from ptq4dit.model.hooks import Hooks

Source = tuple[str, int] | None
"""``("output", k)``: output k of the block before; ``("argument", j)``: its argument leaf j, unchanged;
``("constant", j)``: the same whatever the samples are; None: something else, made between the blocks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Wiring:
    """One block as the model calls it.

    Attributes:
        path: of the block in the transformer.
        structure: of its arguments.
        rows: how many of the first axis of each argument leaf belong to one sample; 0 for what all share.
        sources: where each leaf comes from.
        constants: the leaves as they were seen; those whose source is ``"constant"`` are always so.
    """

    path: str
    structure: pytree.TreeSpec
    rows: tuple[int, ...]
    sources: tuple[Source, ...]
    constants: tuple[Any, ...]

    @property
    def follows(self) -> bool:
        """Whether all its arguments are those of the block before, or what that returned."""
        return None not in self.sources


@torch.no_grad()
def find_wiring(transformer: nn.Module, blocks: list[str], calls: Sequence[tuple[int, Call]]) -> list[Wiring]:
    """The wiring of the blocks that a forward uses, in the order in which it does.

    An argument is recognised by identity: the block before returned this very tensor, or was given it, and nobody wrote
    into it since. Two calls that differ in samples and their number tell what belongs to the samples.

    Args:
        transformer: the float model.
        blocks: paths of its blocks, in any order.
        calls: two of the model, each with its number of samples; the numbers and the samples differ.

    Raises:
        ValueError: if the model cannot be called so, or a block's arguments cannot be told apart by sample.
    """
    few, many = (_visits(transformer, blocks, call) for _, call in calls)
    counts = calls[0][0], calls[1][0]
    if [visit.path for visit in few] != [visit.path for visit in many]:
        raise ValueError("Expected a forward that uses the same blocks whatever the samples, got one that does not.")
    result, before = [], None
    for one, other in zip(few, many, strict=True):
        rows = _rows_of(one, other, counts)
        sources = tuple(_source(i, one, other, rows[i], before) for i in range(len(rows)))
        result.append(
            Wiring(path=one.path, structure=one.structure, rows=rows, sources=sources, constants=tuple(one.leaves))
        )
        before = one
    return result


@dataclass(kw_only=True, eq=False)
class _Visit:
    """One call of a block. Its tensors are kept alive, so that no later one can be mistaken for them."""

    path: str
    leaves: list[Any]
    versions: list[int]
    structure: pytree.TreeSpec
    outputs: list[Tensor]
    output_versions: list[int]


def _visits(transformer: nn.Module, blocks: list[str], call: Call) -> list[_Visit]:
    with _visited(transformer, blocks) as visits:
        try:
            call.on(transformer)
        except (RuntimeError, TypeError, IndexError) as error:
            raise ValueError(
                f"Expected inputs that fit this {type(transformer).__name__}, got others: {error}. Collect from this "
                "model."
            ) from error
    if not visits:
        raise ValueError(f"Expected a forward that uses the blocks {blocks[0]!r} ..., got one that uses none of them.")
    return list(visits.values())


@contextmanager
def _visited(transformer: nn.Module, blocks: list[str]) -> Iterator[dict[str, _Visit]]:
    visits: dict[str, _Visit] = {}

    def before(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            leaves, structure = pytree.tree_flatten((args, kwargs))
            visit = _Visit(
                path=path,
                leaves=leaves,
                versions=_versions(leaves),
                structure=structure,
                outputs=[],
                output_versions=[],
            )
            visits.setdefault(path, visit)

        return hook

    def after(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            if not visits[path].outputs:  # of its first call, where a model uses a block again
                outputs = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
                visits[path].outputs, visits[path].output_versions = outputs, _versions(outputs)

        return hook

    modules = {path: transformer.get_submodule(path) for path in blocks}
    with Hooks() as hooks:
        for path, module in modules.items():
            hooks.before(module, before(path))
            hooks.after(module, after(path))
        yield visits


def _versions(leaves: list[Any]) -> list[int]:
    """How often each tensor has been written into."""
    return [leaf._version if isinstance(leaf, Tensor) else 0 for leaf in leaves]


def _rows_of(one: _Visit, other: _Visit, counts: tuple[int, int]) -> tuple[int, ...]:
    if one.structure != other.structure:
        raise ValueError(f"Expected arguments of {one.path!r} that are built alike for all samples, got others.")
    return tuple(_rows(one.path, (a, b), counts) for a, b in zip(one.leaves, other.leaves, strict=True))


def _rows(path: str, seen: tuple[Any, Any], counts: tuple[int, int]) -> int:
    """How many of its first axis belong to one sample, from the sizes for two numbers of samples."""
    if not isinstance(seen[0], Tensor) or not seen[0].ndim or seen[0].shape[0] == seen[1].shape[0]:
        return 0
    sizes = tuple(leaf.shape[0] for leaf in seen)
    rows = sizes[0] // counts[0]
    if sizes != (rows * counts[0], rows * counts[1]):
        raise ValueError(
            f"Expected arguments of {path!r} with rows for every sample, got {sizes[0]} and {sizes[1]} rows for "
            f"{counts[0]} and {counts[1]} samples. This model's blocks cannot be reconstructed one by one."
        )
    return rows


def _source(index: int, one: _Visit, other: _Visit, rows: int, before: _Visit | None) -> Source:
    leaf, version = one.leaves[index], one.versions[index]
    if not isinstance(leaf, Tensor):
        return ("constant", index)
    if before is not None:
        for k, output in enumerate(before.outputs):
            if output is leaf and before.output_versions[k] == version:
                return ("output", k)
        for j, argument in enumerate(before.leaves):
            if argument is leaf and before.versions[j] == version:
                return ("argument", j)
    same = not rows and leaf.shape == other.leaves[index].shape and torch.equal(leaf, other.leaves[index])
    return ("constant", index) if same else None
