"""Transformers of every family on integers: against their simulated twin, and every quantized linear in the graph."""

import pytest
import torch

from ptq4dit.backends import openvino as backend
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.products import linear_precisions
from ptq4dit.quantized.linear import QuantizedLinear
from tests.ptq4dit.backends.tiny_quantized import tiny_quantized
from tests.ptq4dit.model.tiny_models import TINY

BOUND = 0.01
"""Relative difference that flips of single roundings stay below."""
SETTINGS = {"W8A8": {"weight_symmetric": True}, "W4A8": {"weight_bits": 4}}


def leaves(output):
    return [leaf for leaf in torch.utils._pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def difference(mine, right):
    pairs = zip(leaves(mine), leaves(right), strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return IntegerOptions(cache=tmp_path_factory.mktemp("compiled"), threads=1)


@pytest.fixture(scope="module")
def sd3(options):
    twin, call, _ = tiny_quantized("sd3", weight_bits=4)
    return twin, call, backend.build(twin, options)


@pytest.mark.parametrize("bits", SETTINGS)
@pytest.mark.parametrize("name", [name for name in TINY if not name.startswith("dit")])
def test_every_family(name, bits, options):
    twin, call, model = tiny_quantized(name, **SETTINGS[bits])
    with torch.no_grad():
        right, exact = call.on(twin), call.on(model)
    integer = backend.build(twin, options)
    assert difference(call.on(integer), right) < BOUND < 20 * difference(right, exact)
    (graph,) = integer.step.graphs
    found = linear_precisions(graph.compiled)
    quantized = [path for path, module in twin.named_modules() if isinstance(module, QuantizedLinear)]
    unused = {path for path in quantized if path not in found}
    assert len(unused) <= 3 and all(found[path] in ("u8", "i8") for path in quantized if path not in unused)
    assert not unused or name == "qwen"  # whose last block's text nobody reads
