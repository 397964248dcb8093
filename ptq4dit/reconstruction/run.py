"""Reconstruct a quantized model block by block: quantized inputs, float outputs, resumable after every block."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ptq4dit.calibration.trajectories import Trajectories
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.model.bundle import Dit
from ptq4dit.model.streamed import any_streamed
from ptq4dit.reconstruction.adaround import Softened, train_block
from ptq4dit.reconstruction.blocks import BlockPair
from ptq4dit.reconstruction.closed_form import round_block
from ptq4dit.reconstruction.data import BlockData
from ptq4dit.reconstruction.report import Progress, Report
from ptq4dit.reconstruction.state import State
from ptq4dit.reconstruction.walk import Walk
from ptq4dit.sharing import shared

_CHECKS = 10
"""How often a block is measured on the held-out samples while it is trained."""
_PATIENCE = 3
"""Measurements in a row that may bring nothing before the training of a block ends early."""


def reconstruct(
    dit: Dit,
    model: Dit,
    data: Trajectories,
    config: ReconstructionConfig,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    folder: Path | None = None,
    in_place: bool = False,
) -> Dit:
    """Improve the rounding of a quantized model, one block after the other.

    Each block is given what the blocks before it, already reconstructed, make of the data, and should return what the
    float block returns in the float model (PTQ4DiT Section 5.1, after BRECQ and Q-Diffusion). With held-out images the
    best state of each block on them is kept, never one that is worse than the block as it came, and a block whose steps
    bring nothing any more ends early.

    Simplified: only the sites of the blocks are learned, the linears of attention and feed-forward; patch embedding,
    conditioning, modulation and final layer stay as they are rounded.

    Args:
        dit: the float bundle, re-parameterized as ``model`` is: the same factors folded.
        model: its quantized twin; left as it is unless ``in_place``.
        data: inputs of the transformer, from `collect`; those of the first ``config.images`` images are used, or
            ``config.samples`` of them.
        config: how.
        progress: told about every step.
        cancelled: asked before every chunk of the data that passes a block, and after every step.
        folder: where the state of each finished block is kept; a later call with the same arguments goes on there and
            ends with the same bits. None keeps nothing.
        in_place: change ``model`` itself instead of a copy, which for DiT-XL/2 would take 3.7 GB more.

    Returns:
        The reconstructed bundle.

    Raises:
        Cancelled: once ``cancelled`` says True.
        ValueError: if ``data`` are not of this model's shape, or lack a half of guidance that the objective needs; for
            a copy of a model whose integers are on disk.
    """
    if any_streamed(model.transformer) and not in_place:
        raise ValueError("Expected in_place=True for a model whose integers are on disk, got False: they are its only.")
    result = model.transformer if in_place else copy.deepcopy(model.transformer)
    settings = {"progress": progress, "cancelled": cancelled, "folder": folder}
    reconstruct_transformer(dit.transformer, result, data, config, **settings)  # type: ignore[arg-type]
    return model.with_transformer(result.eval())


def reconstruct_transformer(
    exact: nn.Module,
    quantized: nn.Module,
    data: Trajectories,
    config: ReconstructionConfig,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    folder: Path | None = None,
) -> None:
    """Do what `reconstruct` does to a transformer alone, of any family, in place.

    Of a model whose weights are on disk, memory holds one block, in float and in integers, and that block's data.

    Args:
        exact: the float transformer, re-parameterized as ``quantized`` is.
        quantized: its quantized twin.
        data, config, progress, cancelled, folder: as for `reconstruct`.
    """
    used, guidance = _chosen(data, config)
    state = State(folder, exact, quantized, used, config)
    report = Report(config=config, progress=progress, cancelled=cancelled)
    walk = Walk(exact, quantized, used, guidance, report.check)
    report.blocks = len(walk)
    for index, (pair, block_data) in enumerate(walk):
        report.start(index)
        if not state.load(index, pair):
            _reconstruct_block(pair, block_data, used, config, index, report)
            state.save(index, pair)
    report.start(len(walk))


@torch.no_grad()
def block_error(pair: BlockPair, data: BlockData) -> float:
    """Mean squared error of a block's outputs against the float block's, over the data's views; streams are summed."""

    def sums(chunk: BlockData, _: slice) -> list[tuple[float, int]]:
        streams = zip(chunk.inputs.on(pair.block), chunk.targets, strict=True)
        wrong = [chunk.views(output - target) for output, target in streams]
        return [(float(one.double().square().sum()), one.numel()) for one in wrong]

    streams = zip(*data.each(pair.device, sums), strict=True)
    return sum(sum(total for total, _ in parts) / sum(count for _, count in parts) for parts in streams)


def held_out(images: Tensor, share: float) -> Tensor:
    """Which samples belong to the last ``share`` of the images, at least one image and never all; a mask."""
    every = images.unique()
    count = min(len(every) - 1, max(1, round(share * len(every)))) if share else 0
    return torch.isin(images, every[len(every) - count :])


def some_rows(rows: Tensor, data: BlockData, tokens: int, generator: torch.Generator) -> Tensor:
    """As many of the samples, chosen at random, as have so many tokens together; pairs stay pairs."""
    groups = rows.unflatten(0, (-1, data.group))
    count = max(1, tokens // (data.tokens * data.group))
    return groups[torch.randperm(len(groups), generator=generator)[:count].sort().values].flatten()


def _reconstruct_block(
    pair: BlockPair,
    data: BlockData,
    used: Trajectories,
    config: ReconstructionConfig,
    index: int,
    report: Report,
) -> None:
    if not pair.layers:
        return
    mask = held_out(used.images, config.held_out)
    rows, held = (~mask).nonzero()[:, 0], data.take(mask) if mask.any() else None
    best = _Best(pair, held)
    generator = torch.Generator().manual_seed(_block_seed(config.seed, index))
    targets = None
    if config.start == "gptq":
        some = data.take(some_rows(rows, data, config.tokens, generator))
        ranges = {"activation_scales": config.activation_scales, "activation_ends": config.activation_ends}
        targets = round_block(pair, some, config.damping, **ranges)
        best.consider()
    report.step(0)
    every = max(1, config.steps // _CHECKS)

    def after_step(done: int, soft: Softened) -> bool:
        report.step(done)
        if held is None or done % every:
            return False
        with soft.hard():
            best.consider()
        return best.stale >= _PATIENCE

    def polish(_: int) -> list[Tensor]:  # each step begins where the one before ended: one process does it
        best.restore()
        train_block(pair, data, rows, config, generator, after_step, targets)
        best.consider()
        return best.tensors()

    if config.steps:
        for found in shared([index], polish):
            best.take(found)
    best.restore()


class _Best:
    """The state of a block that was best on the held-out samples; without any, the latest."""

    def __init__(self, pair: BlockPair, held: BlockData | None) -> None:
        self.pair, self.held = pair, held
        self.error, self.stale = float("inf"), 0
        self.state: dict[str, dict[str, Tensor]] = {}
        self.consider()

    def consider(self) -> None:
        error = 0.0 if self.held is None else block_error(self.pair, self.held)
        self.stale += 1
        if self.held is None or error < self.error:
            self.error, self.stale = error, 0
            self.state = {
                name: {key: tensor.clone() for key, tensor in layer.state_dict().items()}
                for name, layer in self.pair.layers.items()
            }

    def tensors(self) -> list[Tensor]:
        return [tensor for state in self.state.values() for tensor in state.values()]

    def take(self, tensors: Sequence[Tensor]) -> None:
        """Have those of another process for the best."""
        left = iter(tensors)
        self.state = {name: {key: next(left) for key in state} for name, state in self.state.items()}

    def restore(self) -> None:
        for name, layer in self.pair.layers.items():
            layer.load_state_dict(self.state[name])


def _chosen(data: Trajectories, config: ReconstructionConfig) -> tuple[Trajectories, float]:
    """The samples that a config asks for, and the guidance scale if they are pairs, one behind the other, else 1."""
    first = torch.isin(data.images, data.images.unique()[: config.images])
    guidance = data.config.guidance_scale if config.objective == "guided" and _halved(data) else 1.0
    data = data if bool(first.all()) else data.take(first.nonzero()[:, 0])
    groups = data.pairs() if guidance > 1 else torch.arange(len(data))[:, None]
    if config.samples is not None and config.samples < len(data):
        generator = torch.Generator().manual_seed(config.seed)
        count = max(1, config.samples // groups.shape[1])
        groups = groups[torch.randperm(len(groups), generator=generator)[:count].sort().values]
    whole = groups.numel() == len(data) and guidance <= 1
    return data if whole else data.take(groups.flatten()), guidance


def _halved(data: Trajectories) -> bool:
    """Whether the model computes guidance from two halves; some are given its scale and compute one."""
    return "class_labels" in data.conditions or bool(data.halves.any())


def _block_seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]) % 2**63
