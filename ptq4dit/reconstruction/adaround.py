"""Learn the rounding and the scales of one block by gradient, against the float block's output."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.quantized.attention import AttentionRounding
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.reconstruction.arguments import Arguments
from ptq4dit.reconstruction.blocks import BlockPair
from ptq4dit.reconstruction.closed_form import target_weight
from ptq4dit.reconstruction.data import BlockData
from ptq4dit.reconstruction.grid import Grid
from ptq4dit.reconstruction.soft_attention import SoftAttention
from ptq4dit.reconstruction.soft_linear import SoftLinear

LEAN = 0.15
"""How far a weight starts from its integer in closed form towards what that rounds; far ones would all be undecided."""
_RANGE = ("activation_scale", "activation_zero_point")
_FARTHEST = 0.7
"""Steps between integer and target that count."""


def train_block(
    pair: BlockPair,
    data: BlockData,
    samples: Int[Tensor, " chosen"],
    config: ReconstructionConfig,
    generator: torch.Generator,
    after_step: Callable[[int, "Softened"], bool],
    targets: Mapping[str, Tensor] | None = None,
) -> None:
    """Run AdaRound (Nagel et al. 2020) on one block, in place.

    Minimizes ``|y - block(x)|^2`` summed over channels and streams, averaged over tokens, with the annealed
    regularization of BRECQ (Li et al. 2021); weight scales and biases are fixed. From nearest rounding it starts at the
    float weights. From the closed form it starts at the integers found there, leaning by a share of `LEAN` towards the
    target that they round: whatever has no reason to change stays. Static activation scales are learned (LSQ) if the
    config says so, at a rate that falls as a cosine.

    Args:
        pair: the block, float and quantized.
        data: its inputs and targets.
        samples: which of them are trained on.
        config: steps, batch size, rates, regularization.
        generator: draws the batches.
        after_step: called with (steps done, the softened block); True stops early. Nothing is written into the block
            unless this, or the end, does (`Softened.harden`).
        targets: what the integers round, from `round_block`; None for the float weights.
    """
    device = pair.device
    with softened(pair, targets, scales=config.activation_scales) as soft:
        optimizer = _optimizer(soft, config)
        for step in range(config.steps):
            _set_rates(optimizer, soft, config, step)
            rows = data.draw(samples, config.batch_size, generator)
            loss = _loss(soft, data.take(rows, device), config, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if after_step(step + 1, soft):
                return
        soft.harden()


class Softened:
    """A block whose quantized linears are `SoftLinear` for the time being, its rounded attentions `SoftAttention`."""

    def __init__(self, pair: BlockPair, layers: dict[str, SoftLinear]) -> None:
        """Take over; `installed` puts them in."""
        self.pair, self.layers, self._own = pair, layers, pair.layers
        self._attentions = {
            name: module for name, module in pair.block.named_modules() if isinstance(module, AttentionRounding)
        }

    def __call__(self, inputs: Arguments) -> tuple[Tensor, ...]:
        """What the softened block makes of its arguments: all tensors that it returns, with gradients."""
        ranges = [layer.input_range for layer in self.layers.values() if layer.input_range is not None]
        for one in ranges:
            one.start()
        try:
            return inputs.on(self.pair.block)
        finally:
            for one in ranges:
                one.start()

    def harden(self) -> None:
        """Write the present state into the block's quantized layers."""
        for name, layer in self.layers.items():
            layer.harden(self._own[name])

    @contextmanager
    def hard(self) -> Iterator[None]:
        """The block with its present state in its own quantized layers, as it would be used."""
        self.harden()
        self._install(soft=False)
        try:
            yield
        finally:
            self._install(soft=True)

    def parameters(self, name: str) -> list[nn.Parameter]:
        """The parameters whose name ends so, of all layers, as far as they are learned; what layers share, once."""
        found = {id(p): p for layer in self.layers.values() for n, p in layer.named_parameters() if n.endswith(name)}
        return [parameter for parameter in found.values() if parameter.requires_grad]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The block softened, its own parameters fixed."""
        learned = [parameter for parameter in self.pair.block.parameters() if parameter.requires_grad]
        self._install(soft=True)
        for parameter in learned:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in learned:
                parameter.requires_grad_(True)
            self._install(soft=False)

    def _install(self, *, soft: bool) -> None:
        for name, layer in self.layers.items():
            self.pair.block.set_submodule(name, layer if soft else self._own[name])
        for name, attention in self._attentions.items():
            self.pair.block.set_submodule(name, SoftAttention.of(attention) if soft else attention)


@contextmanager
def softened(
    pair: BlockPair, targets: Mapping[str, Tensor] | None = None, *, scales: bool = True
) -> Iterator[Softened]:
    """Replace a block's quantized linears by trainable ones; they are put back whatever happens.

    Layers that round the same input, q, k and v, learn one scale for it, as an integer product needs.

    Args:
        pair: the block, float and quantized.
        targets: start at the block's integers, leaning towards these; None starts at the float weights.
        scales: learn static activation scales.
    """
    layers = {}
    for name, module in pair.layers.items():
        linear = _copy(module)
        layers[name] = SoftLinear(linear, _position(linear, pair.exact, name, targets))
        if not scales:
            for parameter in layers[name].range_parameters():
                parameter.requires_grad_(False)
    for stage in pair.stages:
        _share_input([layers[name] for name in stage.names if name in layers])
    result = Softened(pair, layers)
    with result.installed():
        yield result


def _share_input(layers: list[SoftLinear]) -> None:
    """Let layers of one input learn one range of it, those that round it alike."""
    static = [layer for layer in layers if layer.input_range is not None]
    for layer in static[1:]:
        if all(torch.equal(getattr(layer.linear, part), getattr(static[0].linear, part)) for part in _RANGE):
            layer.input_range = static[0].input_range


def _loss(soft: Softened, batch: BlockData, config: ReconstructionConfig, step: int) -> Float[Tensor, ""]:
    batch.tell()
    wrong = (batch.views(output - target) for output, target in zip(soft(batch.inputs), batch.targets, strict=True))
    loss = torch.stack([one.square().sum(-1).mean() for one in wrong]).sum()
    done = step / config.steps
    if not config.regularization or done < config.warmup:
        return loss
    first, last = config.beta
    beta = last + (first - last) * (1 - (done - config.warmup) / (1 - config.warmup))
    trained = [layer for layer in soft.layers.values() if layer.trains_weight]
    return loss + config.regularization * sum((layer.penalty(beta) for layer in trained), loss.new_zeros(()))


def _copy(linear: QuantizedLinear) -> QuantizedLinear:
    """A layer with the same state and the same clock."""
    result = copy.copy(linear)
    result._buffers = {name: None if b is None else b.clone() for name, b in linear._buffers.items()}
    return result


def _position(
    linear: QuantizedLinear, exact: nn.Module, name: str, targets: Mapping[str, Tensor] | None
) -> Tensor | None:
    """Where a layer's weights start on its grid."""
    if linear.config.weight_bits == FLOAT_BITS:
        return None
    grid = Grid.of(linear)
    if targets is not None:
        steps = grid.steps(linear)
        if name not in targets:  # the closed form left it alone
            return steps
        return steps + LEAN * (targets[name] - steps).clamp(-_FARTHEST, _FARTHEST)
    return target_weight(linear, exact.get_submodule(name)) / grid.expand(linear.weight_scale)


_NAMES = ("rounding", "input_range.log_scale")


def _optimizer(soft: Softened, config: ReconstructionConfig) -> torch.optim.Adam:
    groups = [{"params": soft.parameters(name), "name": name} for name in _NAMES]
    return torch.optim.Adam([group for group in groups if group["params"]], lr=config.learning_rate)


def _set_rates(optimizer: torch.optim.Adam, soft: Softened, config: ReconstructionConfig, step: int) -> None:
    done = step / config.steps
    cosine = 0.5 * float(1 + torch.cos(torch.tensor(torch.pi * done)))
    for group in optimizer.param_groups:
        if group["name"] == "rounding":
            group["lr"] = config.learning_rate
        else:
            group["lr"] = config.activation_learning_rate * cosine
