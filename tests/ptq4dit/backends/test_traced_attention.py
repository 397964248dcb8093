"""Attentions of traced families on integers: the twin's numbers up to flips, products of bytes, refused by name."""

import functools
import warnings

import openvino
import pytest
import torch
from torch import nn

from ptq4dit.backends import marks, openvino_attention, tracing
from ptq4dit.backends import openvino as backend
from ptq4dit.backends.openvino_attention import AttentionGrids, multiplied, require_integer_attention
from ptq4dit.backends.options import IntegerOptions
from ptq4dit.backends.shared_copies import shallow_copy
from ptq4dit.config.quantization import Override
from ptq4dit.model.attention import PARTS, Product
from tests.ptq4dit.checkpoint.quantized_tiny import quantized
from tests.ptq4dit.model.tiny_models import output_of

SYMMETRIC = (Override(pattern="attention", activation_symmetric=True),)
Q, K, V = torch.randn(3, 2, 2, 6, 8, generator=torch.Generator().manual_seed(0))
SEEN = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(1)) > 0.4
SEEN[0, 0, 2] = False  # this one sees nothing


class Marked(nn.Module):
    """A product with a mark in its place."""

    def __init__(self, causal=False):
        super().__init__()
        self.product, self.causal = marks.MarkedProduct(0), causal

    def forward(self, q, k, v, mask=None):
        return self.product(Product(q=q, k=k, v=v, mask=mask, causal=self.causal, scale=0.3))


def on_integers(*given, causal=False):
    grids = AttentionGrids(q=0.03, k=0.03, v=0.03, softmax=1 / 255)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Marked(causal), given, check_trace=False)
    graph = tracing._converted(traced, given, [], [("it", grids)])
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(compiled([one.numpy() for one in given])[0]), compiled


def written_out(q, k, v, mask):
    def rounded(x, step, low, high):
        return torch.fake_quantize_per_tensor_affine(x, step, 0, low, high)

    q, k, v = (rounded(x, 0.03, -128, 127) for x in (q, k, v))
    k, v = (x.repeat_interleave(len(q[0]) // len(x[0]), dim=1) for x in (k, v))
    scores = q @ k.transpose(2, 3) * 0.3
    if mask is not None:
        scores = scores + (torch.where(mask, 0.0, -torch.inf) if mask.dtype == torch.bool else mask)
    return rounded(scores.softmax(-1).nan_to_num(0.0), 1 / 255, 0, 255) @ v


@pytest.mark.parametrize("floats", [False, True], ids=["of bytes", "in float"])
@pytest.mark.parametrize(
    ("mask", "heads", "causal"),
    [
        (None, 2, False),
        (SEEN, 2, False),
        (SEEN[:, :, :1], 2, False),
        (torch.where(SEEN, 0.0, -10000.0)[:, :, :1], 2, False),
        (None, 1, True),
    ],
    ids=["all seen", "by token", "by key", "added", "causal, one head of keys"],
)
def test_one_product_equals_the_definition(mask, heads, causal, floats, monkeypatch):
    monkeypatch.setattr(openvino_attention, "products_saturate", lambda: floats)
    given = (Q, K[:, :heads], V[:, :heads], *(() if mask is None else (mask,)))
    found, compiled = on_integers(*given, causal=causal)
    expected = written_out(*given[:3], torch.ones(6, 6).tril().bool() if causal else mask)
    assert (found - expected).abs().max() < 1e-5
    require_integer_attention(compiled, ["it"])  # floats, where they are wanted, are not looked at


def coarse(name):
    """A twin whose attentions round to few steps: what is not rounded, or to others, shows."""
    _, _, twin, call = quantized(name, attention_bits=8, softmax_bits=8, overrides=SYMMETRIC)
    result = shallow_copy(twin)
    for module in result.modules():
        for part in PARTS if hasattr(module, "softmax_quantizer") else ():
            setattr(module, f"{part}_scale", getattr(module, f"{part}_scale") * 12)
    return result, twin, call


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    return IntegerOptions(cache=tmp_path_factory.mktemp("compiled"), threads=1)


def difference(one, other):
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("name", ["sd3", "pixart-sigma", "flux", "qwen"])
def test_equals_the_simulated_twin_up_to_flips(name, options):
    twin, fine, call = coarse(name)
    model = backend.build(twin, options)
    expected = output_of(twin, call)
    flips = difference(output_of(model, call), expected)
    assert flips < min(0.02, 0.7 * difference(output_of(fine, call), expected))
    assert f"traced, {multiplied()}, rest in f32" in model.runtime


def test_both_products_of_each_are_of_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_attention, "products_saturate", lambda: False)
    _, _, twin, call = quantized("sd3", attention_bits=8, softmax_bits=8, overrides=SYMMETRIC)
    model = backend.build(twin, IntegerOptions(cache=tmp_path, threads=1))
    assert difference(output_of(model, call), output_of(twin, call)) < 0.01
    (graph,) = model.step.graphs
    names = [f"transformer_blocks.{block}.attn" for block in range(3)]
    require_integer_attention(graph.compiled, names)
    with pytest.raises(ValueError, match="'other' to multiply 8-bit integers, got no product"):
        require_integer_attention(graph.compiled, [*names, "other"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "q, k and v with a zero point.*activation_symmetric=True"),
        ({"attention_bits": 6}, "q in 6 bits"),
        ({"softmax_bits": 16}, "softmax in 16 bits"),
    ],
)
def test_what_no_product_of_bytes_expresses_is_refused_before_a_call(settings, message, options):
    twin = quantized("sd3", **{"attention_bits": 8, "softmax_bits": 8} | settings)[2]
    with pytest.raises(ValueError, match=rf"'transformer_blocks\.0\.attn'.*{message}"):
        backend.build(twin, options)


def test_other_grids_are_another_graph_in_the_cache():
    twin, fine, _ = coarse("sd3")
    content = functools.partial(backend._content, settings={}, writers=(), without=())
    one, other = (b"".join(bytes(part) for part in content(each)) for each in (twin, fine))
    assert one != other
