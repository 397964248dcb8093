"""Round the linears of one block in closed form: each layer on the inputs that the rounded layers before it give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.config.quantization import FLOAT_BITS
from ptq4dit.model.streamed import weights
from ptq4dit.quantized.activation import is_static
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.reconstruction.blocks import BlockPair, Stage
from ptq4dit.reconstruction.capture import input_of, output_of, reached
from ptq4dit.reconstruction.data import BlockData
from ptq4dit.reconstruction.gptq import best_scale, coordinate_descent, gptq, least_squares_weight
from ptq4dit.reconstruction.grid import Grid
from ptq4dit.reconstruction.input_range import search_input_range
from ptq4dit.reconstruction.layer_input import by_sample, float_weight, gate_weights, relative
from ptq4dit.sharing import shared, split

_CONSTANT = 4e-6
"""Variance of an input, relative to its mean square, below which it is taken for constant."""
SHARDS = 24
"""Runs of samples that are summed by themselves before their sums are, at most: so many processes can share them."""


@torch.no_grad()
def round_block(
    pair: BlockPair,
    data: BlockData,
    damping: float,
    *,
    activation_scales: bool = True,
    activation_ends: bool = False,
) -> dict[str, Tensor]:
    """Choose the integers, scales and biases of a block's linears in closed form, in place.

    Layer after layer: the best of a few static activation ranges, the least squares target given the rounded inputs
    (`least_squares_weight`), `gptq`, `best_scale` and one pass of `coordinate_descent`, and the bias that keeps the
    mean of the float layer's output. Tokens weigh as much as the gate that their sample's output is multiplied with;
    of pairs, what guidance makes of their tokens counts beside them (`BlockData.views`). Layers stay that have
    float weights, that a forward does not use, or whose gate is shut for all samples.

    Args:
        pair: the block, float and quantized.
        data: its inputs.
        damping: of the Hessian.
        activation_scales: search static activation scales, too.
        activation_ends: and both ends of their ranges by themselves, see `search_input_range`.

    Returns:
        Layer name -> where its least squares target lies on its grid, in steps from zero: what was rounded.
    """
    targets: dict[str, Tensor] = {}
    for stage in _used(pair, data):
        weights = sample_weights(pair, stage, data)
        if weights is None:
            continue
        layers = {name: pair.layers[name] for name in stage.names if name in pair.layers}
        first = layers[stage.names[0]]
        if activation_scales and is_static(first.config):
            grid = search_input_range(pair, stage.names[0], _stacked(pair, layers), data, weights, ends=activation_ends)
            for linear in layers.values():
                linear.activation_scale.copy_(grid[0])
                linear.activation_zero_point.copy_(grid[1])
        rounded = {name: linear for name, linear in layers.items() if linear.config.weight_bits != FLOAT_BITS}
        if not rounded:
            continue
        moments = _moments(pair, stage.names[0], weights, data).averaged(centered=first.bias is not None)

        def found(name: str, moments: _Moments = moments) -> tuple[Tensor | None, ...]:
            return _rounded(pair.layers[name], pair.exact.get_submodule(name), moments, damping)

        for (name, linear), (integers, scale, bias, target) in zip(
            rounded.items(), shared(list(rounded), found), strict=True
        ):
            linear.set_integers(integers, scale, linear.weight_zero_point)
            if linear.bias is not None:
                linear.bias.copy_(bias)
            targets[name] = target
    return targets


def sample_weights(pair: BlockPair, stage: Stage, data: BlockData) -> Float[Tensor, " sample"] | None:
    """How much each sample's tokens weigh: the mean square of the stage's gate, as a share of the largest.

    Returns:
        ``(n,)`` float64 on the block's device; ones without a gate, None if the gate is shut for all samples.
    """
    if stage.gate is None:
        return torch.ones(len(data), dtype=torch.float64, device=pair.device)
    path, start, stop = stage.gate

    def gates(chunk: BlockData, _: slice) -> tuple[Tensor]:
        made = output_of(pair.exact, path, chunk.float_inputs.on)
        return (gate_weights(made, slice(start, stop), len(chunk)),)

    return relative(torch.cat([part for (part,) in data.each(pair.device, gates)]))


def _used(pair: BlockPair, data: BlockData) -> list[Stage]:
    """The stages with quantized layers that a forward uses."""
    stages = {stage.names[0]: stage for stage in pair.stages if stage.names[0] in pair.layers}
    data.check()
    few = data.take(slice(0, data.group), pair.device)
    few.tell()
    return [stages[name] for name in reached(pair.block, list(stages), few.inputs.on)]


def _stacked(pair: BlockPair, layers: Mapping[str, QuantizedLinear]) -> Float[Tensor, "d_out d_in"]:
    """The float weights of layers that share an input, one below the other."""
    parts = [float_weight(linear, pair.exact.get_submodule(name)) for name, linear in layers.items()]
    return torch.cat([part.float() for part in parts])


def target_weight(linear: QuantizedLinear, like: nn.Module) -> Float[Tensor, "d_out d_in"]:
    """The float weight that a layer's integers stand for: prepared for its input, without its float branch."""
    weight = float_weight(linear, like)
    return weight - linear.low_rank_up @ linear.low_rank_down if linear.config.rank else weight


@dataclass(kw_only=True)
class _Moments:
    """Weighted sums over tokens of a layer's float input f, its input x, and r, that input rounded; float64.

    ``gram = sum w r r^T``, ``cross = sum w f r^T``, ``branch = sum w x r^T`` (for layers with a float branch only).
    """

    total: Tensor
    exact: Tensor
    given: Tensor
    rounded: Tensor
    gram: Tensor
    cross: Tensor
    branch: Tensor

    @staticmethod
    def empty(width: int, device: torch.device, *, branch: bool) -> "_Moments":
        square = torch.zeros(width, width, dtype=torch.float64, device=device)
        vectors = {name: square[0].clone() for name in ("exact", "given", "rounded")}
        rest = square.clone() if branch else square[:0]
        return _Moments(total=square[0, 0].clone(), gram=square, cross=square.clone(), branch=rest, **vectors)

    def tensors(self) -> tuple[Tensor, ...]:
        """All sums, in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def add(self, f: Tensor, x: Tensor, r: Tensor, weight: Tensor) -> None:
        """Count the tokens of some samples ``(sample, token, d_in)``, each sample with its weight."""
        weighted = (r * weight[:, None, None]).flatten(0, 1)
        self.total += weight.double().sum() * f.shape[1]
        self.exact += (f.sum(1) * weight[:, None]).sum(0)
        self.given += (x.sum(1) * weight[:, None]).sum(0)
        self.rounded += weighted.sum(0)
        self.gram += r.flatten(0, 1).T @ weighted
        self.cross += f.flatten(0, 1).T @ weighted
        if len(self.branch):
            self.branch += x.flatten(0, 1).T @ weighted

    def averaged(self, *, centered: bool) -> "_Moments":
        """Means instead of sums, about the means of the inputs if a bias can make up for those.

        Inputs that do not vary but for float32's rounding count as constant, so that the Hessian stays positive.
        """
        f, x, r = self.exact / self.total, self.given / self.total, self.rounded / self.total
        squares = {
            name: getattr(self, name) / self.total - (torch.outer(mean, r) if centered else 0)
            for name, mean in (("gram", r), ("cross", f), ("branch", x))
            if len(getattr(self, name))
        }
        varies = squares["gram"].diagonal() > _CONSTANT * (self.gram.diagonal() / self.total)
        squares["gram"] = squares["gram"] * varies[:, None]
        squares = {name: square * varies for name, square in squares.items()}
        return _Moments(total=self.total, exact=f, given=x, rounded=r, **({"branch": self.branch} | squares))


def _rounded(
    linear: QuantizedLinear, like: nn.Module, moments: _Moments, damping: float
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """A layer's integers, scales and bias, and what was rounded; the layer has the first two already."""
    grid, full, hessian = Grid.of(linear), float_weight(linear, like).double(), moments.gram
    scale, low, high = linear.weight_scale.double(), grid.low.double(), grid.high.double()
    cross, weight = full @ moments.cross, target_weight(linear, like).double()
    if linear.config.rank:
        cross = cross - (linear.low_rank_up @ linear.low_rank_down).double() @ moments.branch
    target = least_squares_weight(weight, hessian, cross, damping)
    steps, _ = gptq(target / grid.expand(scale), hessian, low, high, grid.expand(scale), damping)
    scale = best_scale(steps, target, hessian, scale)
    steps = coordinate_descent(steps, target, hessian, low, high, grid.expand(scale))
    scale = best_scale(steps, target, hessian, scale)
    linear.set_integers(grid.integers(steps), scale, linear.weight_zero_point)
    bias = None
    if linear.bias is not None:
        with weights(like):
            bias = full @ moments.exact + getattr(like, "bias").detach().double()  # noqa: B009
        if linear.config.rank:
            bias -= linear.low_rank_up.double() @ (linear.low_rank_down.double() @ moments.given)
        bias -= linear.weight.double() @ moments.rounded
    rounded = (target / grid.expand(scale)).to(linear.weight_scale.dtype)
    return linear.weight_q, linear.weight_scale, bias, rounded


def _moments(pair: BlockPair, name: str, weights: Float[Tensor, " sample"], data: BlockData) -> _Moments:
    """Sums over all samples: those of some, in float64, then theirs, so that they are the same whoever made which."""
    linear = pair.layers[name]

    def empty() -> _Moments:
        return _Moments.empty(linear.in_features, linear.weight.device, branch=linear.config.rank > 0)

    def some(shard: Sequence[slice]) -> tuple[Tensor, ...]:
        sums = empty()
        for rows in shard:
            chunk = data.chunk(rows, linear.weight.device)
            f = by_sample(linear, input_of(pair.exact, name, chunk.float_inputs.on), len(chunk))
            x = by_sample(linear, input_of(pair.block, name, chunk.inputs.on), len(chunk))
            rounded = linear.round_input(x)
            f, x, rounded = (chunk.views(values.float()) for values in (f, x, rounded))
            sums.add(f, x, rounded, chunk.view_weights(weights[rows]).float())
        return sums.tensors()

    result = empty()
    for sums in shared(split(data.slices(), SHARDS), some):
        for total, part in zip(result.tensors(), sums, strict=True):
            total += part
    return result
