"""Round the linears of one block in closed form: each layer on the inputs that the rounded layers before it give."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ptq4dit.config import FLOAT_BITS
from ptq4dit.quantized.activation import is_static
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.reconstruction.blocks import BlockParts, input_of
from ptq4dit.reconstruction.data import BlockData
from ptq4dit.reconstruction.gptq import best_scale, coordinate_descent, gptq, least_squares_weight
from ptq4dit.reconstruction.grid import Grid
from ptq4dit.reconstruction.input_range import search_input_range

STAGES: tuple[tuple[tuple[str, ...], int | None], ...] = (
    (("attn1.to_q", "attn1.to_k", "attn1.to_v"), None),
    (("attn1.to_out.0",), 2),
    (("ff.net.0.proj",), None),
    (("ff.net.2",), 5),
)
"""Layers that share an input, in the order of a forward pass, and which chunk of the modulation gates their output."""
_CONSTANT = 4e-6
"""Variance of an input, relative to its mean square, below which it is taken for constant."""


@torch.no_grad()
def round_block(
    exact: BlockParts,
    block: BlockParts,
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
    of pairs, what guidance makes of their tokens counts beside them (`BlockData.views`).
    Layers with float weights stay.

    Args:
        exact: the float block, re-parameterized as the quantized one is.
        block: the quantized block.
        data: its inputs.
        damping: of the Hessian.
        activation_scales: search static activation scales, too.
        activation_ends: and both ends of their ranges by themselves, see `search_input_range`.

    Returns:
        Layer name -> where its least squares target lies on its grid, in steps from zero: what was rounded.
    """
    targets: dict[str, Tensor] = {}
    for names, gate in STAGES:
        first = block.get_submodule(names[0])
        if not isinstance(first, QuantizedLinear):
            continue
        pairs = [(_quantized(block, name), exact.get_submodule(name)) for name in names]
        if activation_scales and is_static(first.config):
            weight = torch.cat([_full_weight(linear, like).float() for linear, like in pairs])
            grid = search_input_range(block, names[0], weight, data, gate, ends=activation_ends)
            for linear, _ in pairs:
                linear.activation_scale.copy_(grid[0])
                linear.activation_zero_point.copy_(grid[1])
        if all(linear.config.weight_bits == FLOAT_BITS for linear, _ in pairs):
            continue
        moments = _moments(exact, block, names[0], gate, data).averaged(centered=pairs[0][0].bias is not None)
        for name, (linear, like) in zip(names, pairs, strict=True):
            if linear.config.weight_bits != FLOAT_BITS:
                targets[name] = _round_layer(linear, like, moments, damping)
    return targets


def target_weight(linear: QuantizedLinear, like: nn.Module) -> Float[Tensor, "d_out d_in"]:
    """The float weight that a layer's integers stand for: prepared for its input, without its float branch."""
    weight = _full_weight(linear, like)
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
    def empty(width: int, device: torch.device) -> "_Moments":
        square = torch.zeros(width, width, dtype=torch.float64, device=device)
        names = ("exact", "given", "rounded")
        vectors = {name: square[0].clone() for name in names}
        squares = {name: square.clone() for name in ("gram", "cross", "branch")}
        return _Moments(total=square[0, 0].clone(), **vectors, **squares)

    def add(self, f: Tensor, x: Tensor, r: Tensor, weight: Tensor, *, branch: bool) -> None:
        """Count the tokens of some samples ``(sample, token, d_in)``, each sample with its weight."""
        weighted = (r * weight[:, None, None]).flatten(0, 1)
        self.total += weight.double().sum() * f.shape[1]
        self.exact += (f.sum(1) * weight[:, None]).sum(0)
        self.given += (x.sum(1) * weight[:, None]).sum(0)
        self.rounded += weighted.sum(0)
        self.gram += r.flatten(0, 1).T @ weighted
        self.cross += f.flatten(0, 1).T @ weighted
        if branch:
            self.branch += x.flatten(0, 1).T @ weighted

    def averaged(self, *, centered: bool) -> "_Moments":
        """Means instead of sums, about the means of the inputs if a bias can make up for those.

        Inputs that do not vary but for float32's rounding count as constant, so that the Hessian stays positive.
        """
        f, x, r = self.exact / self.total, self.given / self.total, self.rounded / self.total
        squares = {
            name: getattr(self, name) / self.total - (torch.outer(mean, r) if centered else 0)
            for name, mean in (("gram", r), ("cross", f), ("branch", x))
        }
        varies = squares["gram"].diagonal() > _CONSTANT * (self.gram.diagonal() / self.total)
        squares["gram"] = squares["gram"] * varies[:, None]
        squares = {name: square * varies for name, square in squares.items()}
        return _Moments(total=self.total, exact=f, given=x, rounded=r, **squares)


def _round_layer(linear: QuantizedLinear, like: nn.Module, moments: _Moments, damping: float) -> Tensor:
    grid, full, hessian = Grid.of(linear), _full_weight(linear, like).double(), moments.gram
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
    if linear.bias is not None:
        wanted = full @ moments.exact + getattr(like, "bias").detach().double()  # noqa: B009
        if linear.config.rank:
            wanted -= linear.low_rank_up.double() @ (linear.low_rank_down.double() @ moments.given)
        linear.bias.copy_(wanted - linear.weight.double() @ moments.rounded)
    return (target / grid.expand(scale)).to(linear.weight_scale.dtype)


def _moments(exact: BlockParts, block: BlockParts, name: str, gate: int | None, data: BlockData) -> _Moments:
    linear = _quantized(block, name)
    result = _Moments.empty(linear.in_features, linear.weight.device)
    for chunk in data.chunks(linear.weight.device):
        chunk.tell()
        f = input_of(exact, name, chunk.float_inputs, chunk.float_modulation)
        x = input_of(block, name, chunk.inputs, chunk.modulation)
        f, x = linear.prepare_input(f), linear.prepare_input(x)
        rounded = linear.round_input(x)
        weights = chunk.view_weights(chunk.gates(gate))
        f, x, rounded = (chunk.views(values.float()) for values in (f, x, rounded))
        result.add(f, x, rounded, weights, branch=linear.config.rank > 0)
    return result


def _full_weight(linear: QuantizedLinear, like: nn.Module) -> Tensor:
    assert isinstance(like, nn.Linear)
    return linear.prepare_weight(like.weight.detach())


def _quantized(block: BlockParts, name: str) -> QuantizedLinear:
    linear = block.get_submodule(name)
    assert isinstance(linear, QuantizedLinear)
    return linear
