"""What `quantize` takes, before it is done: by the first images that it learns from and the first block."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import ptq4dit
from ptq4dit.cli.progress import PricedError, priced
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.parallel import processes

_STEPS = 10
"""Gradient steps that are timed."""


def quantize_price(dit: Any, stats: Any, config: ptq4dit.QuantConfig, folder: Path) -> dict[str, Any]:
    """Time, memory and disk of quantizing, by all processes that there are.

    Without a reconstruction it is one unit, which is done and thrown away. With one, the first images are sampled,
    which are kept, and the first block learns from them; the work of a block grows with the samples, that of a gradient
    step does not.

    Args:
        dit, stats, config: as for `ptq4dit.quantize`.
        folder: where the first images are kept for the work itself.
    """
    from ptq4dit.reconstruction.training import first_training_data
    from ptq4dit.sharing import together

    learned = ptq4dit.METHODS[config.method].prepared(config).reconstruction
    disk = _checkpoint_bytes(dit, config)
    if learned is None:
        begun = time.monotonic()
        with together():
            ptq4dit.quantize(dit, stats, config)
        return priced(1, 0, time.monotonic() - begun, disk=disk)
    data, sampled = first_training_data(dit, stats.config, learned, folder)
    few = dataclasses.replace(config, reconstruction=dataclasses.replace(learned, steps=min(learned.steps, _STEPS)))
    block = _FirstBlock(few.reconstruction)
    try:
        with together():
            ptq4dit.quantize(dit, stats, few, data=data, progress=block)
    except PricedError:
        pass
    start, step = processes().agree((block.start, block.step))
    whole = len(data) / sampled.done * sampled.total  # samples
    more = min(whole, learned.samples or math.inf) / min(len(data), learned.samples or math.inf)
    seconds = sampled.seconds_left + block.blocks * (start * more + step * learned.steps)
    return priced(
        block.blocks,
        0,
        seconds,
        disk=disk + sampled.bytes * sampled.total,
        seconds_sampling=round(sampled.seconds_left, 1),
        seconds_a_block=round(start * more, 2),
        seconds_a_gradient_step=round(step, 4),
    )


class _FirstBlock:
    """Progress of a reconstruction that stops it behind its first block.

    Attributes:
        start: seconds of a block but for its gradient steps.
        step: seconds of one of those.
        blocks: how many there are.
    """

    def __init__(self, config: ReconstructionConfig | None) -> None:
        assert config is not None
        self._pieces, self._done, self._seen = 1 + config.steps, 0, list[float]()
        self.start, self.step, self.blocks = 0.0, 0.0, 0

    def __call__(self, done: int, total: int, _seconds_left: float) -> None:
        """Told as a block begins, is in closed form, after each step, and as the next begins.

        Raises:
            PricedError: then, which is where ``done`` does not grow by one.
        """
        self._seen.append(time.monotonic())
        next_begins = done >= self._pieces and done != self._done + 1
        self._done, self.blocks = done, total // self._pieces
        if next_begins:
            first, second, *_, last, end = self._seen if len(self._seen) > 3 else (*self._seen[:2], *self._seen[1:])
            self.step = (last - second) / max(1, len(self._seen) - 3)
            self.start = second - first + end - last
            raise PricedError


def _checkpoint_bytes(dit: Any, config: ptq4dit.QuantConfig) -> int:
    """About the size of the transformer in the checkpoint, copies of tensors counted as often as they occur."""
    from ptq4dit.quantized.convert import quantized_layers

    weights = {name: tensor.numel() * tensor.element_size() for name, tensor in dit.transformer.state_dict().items()}
    rounded = [f"{path}.weight" for layer in quantized_layers(dit.transformer, config).values() for path in layer.paths]
    each = 0.5 if config.weight_bits <= 4 else 1.0 if config.weight_bits <= 8 else 4.0
    counts = sum(dit.transformer.get_parameter(name).numel() for name in rounded)
    return int(sum(weights.values()) - sum(weights[name] for name in rounded) + each * counts)
