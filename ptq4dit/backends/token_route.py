"""How inputs whose scales are found at run time are rounded here: by OpenVINO itself or written out, decided by trying.

OpenVINO says of a product that it multiplies bytes also where it multiplies floats. So one small product of every kind
of layer is run with the properties of the whole graph, and its output is compared with the simulated layer's and with
that of the input left as it is: rounding must err as rounding errs.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import openvino
import torch
from jaxtyping import Float
from openvino import opset15 as op
from torch import Tensor, nn

from ptq4dit.backends.integer_linear import refusal
from ptq4dit.backends.openvino_layers import layer_product
from ptq4dit.backends.token_linear import TokenLinear, finds_scales, token_linear_of
from ptq4dit.config.quantization import LayerConfig
from ptq4dit.quantized.linear import QuantizedLinear

GROUP_PROPERTY = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
SMALLEST_PART, MOST_PARTS = 64, 16
"""Where rounding is written out: columns that share their scales, and products that make one layer. Beyond, adding up
takes longer than multiplying (measured: 18 products of 64 columns take 2.6 times as long as two of 576)."""
_ROWS = 24

Verdict = Literal["integers", "float", "wrong"]
"""What a product turned out to be: of integers; of floats; of something else than the simulated layer's numbers."""


@dataclass(frozen=True, kw_only=True)
class TokenRoute:
    """How a whole graph rounds such inputs.

    Attributes:
        native: by the runtime, see `openvino_token`.
        properties: that the graph is compiled and loaded with for it.
    """

    native: bool
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What layers have in common that are multiplied by the same kernel."""

    config: LayerConfig
    d_in: int
    d_out: int


def token_route(layers: Mapping[str, nn.Module], properties: Mapping[str, Any]) -> TokenRoute | None:
    """The way that is proven to multiply integers, for every layer whose scales are found at run time.

    Native where all layers have groups of one size that fit; written out else.

    Args:
        layers: name -> linears that the graph holds, others among them.
        properties: with which the graph is compiled.

    Returns:
        None if there are no such layers.

    Raises:
        ValueError: if neither way multiplies integers; the message names a layer, says why, and what to choose.
    """
    found = {name: module for name, module in layers.items() if finds_scales(module)}
    if not found:
        return None
    kinds, described = _kinds(found), {name: token_linear_of(name, [module]) for name, module in found.items()}
    name, why = _native_obstacle(described)
    if why is None:
        native = TokenRoute(native=True, properties={GROUP_PROPERTY: described[name].input_group})
        failed = _first_failure(kinds, native, properties)
        if failed is None:
            return native
        name, why = failed
    for other, layer in described.items():
        if layer.part_count > (MOST_PARTS if layer.part_size >= SMALLEST_PART else 1):
            parts = f"{layer.part_count} products of {layer.part_size} channels in {other!r}"
            raise refusal(name, f"{why}; written out it would be {parts}", "larger groups, or none")
    failed = _first_failure(kinds, TokenRoute(native=False), properties)
    if failed is not None:
        raise refusal(failed[0], failed[1], 'activation_granularity="per_tensor"')
    return TokenRoute(native=False)


@functools.cache
def verdict(kind: Kind, native: bool, properties: frozenset[tuple[str, Any]]) -> Verdict:
    """What a product of a kind turns out to be, tried once in a process.

    Args:
        kind: settings and sizes of the layer; its weight is random.
        native: see `openvino_token`.
        properties: with which it is compiled.
    """
    module = _sample_layer(kind)
    layer = token_linear_of("blocks.0.fc1", [module], native=native)
    prepared = torch.randn(1, _ROWS, kind.d_in, generator=torch.Generator().manual_seed(1))
    given = prepared if layer.input_factor is None else prepared / layer.input_factor
    with torch.no_grad():
        simulated = module(given)
        exact = nn.functional.linear(module.prepare_input(given), module.weight, module.bias)
    return judged(run_once(layer, given, dict(properties)), simulated, exact)


def judged(output: Float[Tensor, "..."], simulated: Float[Tensor, "..."], exact: Float[Tensor, "..."]) -> Verdict:
    """Whose output it is: the simulated layer's, the one without rounding, or nobody's.

    It is theirs from whom it is away by less than half of what rounding the input makes; NaN is nobody's.
    """
    rounding = float((simulated - exact).norm())
    if float((output - simulated).norm()) < rounding / 2:
        return "integers"
    return "float" if float((output - exact).norm()) <= rounding / 2 else "wrong"


def run_once(layer: TokenLinear, x: Float[Tensor, "*batch d_in"], properties: Mapping[str, Any]) -> Tensor:
    """One layer as a graph of its own: compiled, and run on one input."""
    parameter = op.parameter([-1] * (x.ndim - 1) + [x.shape[-1]], np.float32)
    graph = openvino.Model([layer_product(parameter, layer)], [parameter])
    compiled = openvino.Core().compile_model(graph, "CPU", dict(properties))
    return torch.from_numpy(compiled([x.numpy()])[0].copy())


def _kinds(layers: Mapping[str, nn.Module]) -> dict[Kind, str]:
    """Each kind of layer, and the first of it."""
    kinds: dict[Kind, str] = {}
    for name, module in layers.items():
        assert isinstance(module, QuantizedLinear)
        config = replace(module.config, weight_range="minmax")  # how its range was chosen is no matter here
        kinds.setdefault(Kind(config=config, d_in=module.in_features, d_out=module.out_features), name)
    return kinds


def _native_obstacle(layers: Mapping[str, TokenLinear]) -> tuple[str, str | None]:
    """The first layer that keeps the runtime from rounding inputs itself, and why; None if nothing does."""
    first, *_ = layers
    for name, layer in layers.items():
        if layer.native_obstacle is not None:
            return name, layer.native_obstacle
        if layer.input_group != layers[first].input_group:
            return name, (
                f"scales of {layer.input_group} channels, where {first!r} has {layers[first].input_group}: OpenVINO "
                "rounds all inputs of a graph in groups of one size"
            )
    return first, None


def _first_failure(
    kinds: Mapping[Kind, str], route: TokenRoute, properties: Mapping[str, Any]
) -> tuple[str, str] | None:
    chosen = frozenset((dict(properties) | dict(route.properties)).items())
    for kind, name in kinds.items():
        found = verdict(kind, route.native, chosen)
        if found != "integers":
            size = f"{kind.d_in} x {kind.d_out}"
            version = openvino.__version__.split("-")[0]
            said = {"float": "in float, its input not rounded", "wrong": "to something else than the simulated layer"}
            return name, f"a product that OpenVINO {version} makes {said[found]} on this processor ({size}, tried)"
    return None


def _sample_layer(kind: Kind) -> QuantizedLinear:
    """A layer of a kind with random weights."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(kind.d_in, kind.d_out)
    for parameter in linear.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    factor = torch.rand(kind.d_in, generator=generator) + 0.5 if kind.config.input_factor else None
    return QuantizedLinear.from_float(linear, kind.config, None, factor=factor)
