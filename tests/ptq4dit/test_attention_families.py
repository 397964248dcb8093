"""Rounded attention of every family: against the definition written out, saved and loaded, or refused by name."""

import copy
import dataclasses
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ptq4dit import QuantConfig, quantize_transformer, watch
from ptq4dit.backends.cuda import require_float_attention
from ptq4dit.config.record import QuantRecord
from ptq4dit.quantized.attention import RoundedProduct
from tests.ptq4dit.checkpoint.quantized_tiny import TIMES, quantized, require_same
from tests.ptq4dit.model.tiny_models import output_of, relative_difference

FLOAT = {"weight_bits": 16, "activation_bits": 16}
ROUNDED = {"attention_bits": 8, "softmax_bits": 8}
ATTENTIONS = {
    "sd3": [f"transformer_blocks.{i}.attn" for i in range(3)],
    "sd3.5": ["transformer_blocks.0.attn", "transformer_blocks.0.attn2", "transformer_blocks.1.attn"],
    "pixart-sigma": [f"transformer_blocks.{i}.attn{j}" for i in range(2) for j in (1, 2)],
    "flux": [*(f"transformer_blocks.{i}.attn" for i in range(2)), "single_transformer_blocks.0.attn"],
    "lumina2, grouped": ["context_refiner.0.attn", "noise_refiner.0.attn", "layers.0.attn", "layers.1.attn"],
    "qwen": [f"transformer_blocks.{i}.attn" for i in range(2)],
    "wan": [f"blocks.{i}.attn{j}" for i in range(2) for j in (1, 2)],
}


def attentions_of(model):
    return [name.rpartition(".")[0] for name, module in model.named_modules() if isinstance(module, RoundedProduct)]


class Ranges:
    """torch's product, and the ends of q, k, v and softmax of each in the order of a forward."""

    def __init__(self, monkeypatch):
        self.ends, self.calls = {}, 0
        monkeypatch.setattr(F, "scaled_dot_product_attention", self)

    def rounds(self, part, x):
        seen = self.ends.setdefault((self.calls, part), [])
        seen += [x.min(), x.max()]
        return x

    def __call__(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        q, k, v = (self.rounds(part, x) for part, x in zip("qkv", (query, key, value), strict=True))
        if enable_gqa:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scores = q @ k.transpose(-2, -1) * (1 / q.shape[-1] ** 0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None:
            hidden = torch.where(attn_mask, 0.0, -torch.inf) if attn_mask.dtype == torch.bool else attn_mask
            scores = scores + hidden.to(scores.dtype)
        soft = self.rounds("softmax", torch.softmax(scores, dim=-1).nan_to_num(0.0))
        self.calls += 1
        return soft @ v


class Rounded(Ranges):
    """The same of rounded numbers, by ranges that were seen."""

    def __init__(self, monkeypatch, ends, symmetric=False):
        super().__init__(monkeypatch)
        self.ends, self.symmetric = ends, symmetric

    def rounds(self, part, x):
        ends = torch.stack(self.ends[self.calls, part]).float()
        low, high = ends.min().clamp(max=0), ends.max().clamp(min=0)
        if self.symmetric and part != "softmax":
            scale, zero, ends = torch.maximum(-low, high) / 127.5, 0, (-128, 127)
        else:
            scale = (high - low) / 255
            zero, ends = int(torch.round(-low / scale)), (0, 255)
        return torch.fake_quantize_per_tensor_affine(x, float(scale), zero, *ends)


def at_times(call):
    argument = next(key for key in ("timestep", "t") if key in call.kwargs)
    for time in TIMES:
        given = call.kwargs | {argument: torch.full_like(call.kwargs[argument], time)}
        yield dataclasses.replace(call, kwargs=given)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_equals_the_definition(name, monkeypatch):
    _, stats, base, call = quantized(name, torch.float64, **FLOAT)
    _, _, twin, _ = quantized(name, torch.float64, **FLOAT, **ROUNDED)
    assert set(attentions_of(twin)) >= set(ATTENTIONS[name])
    found = output_of(twin, call)
    with monkeypatch.context() as patch:
        seen = Ranges(patch)
        for each in at_times(call):
            seen.calls = 0
            output_of(base, each)
        assert seen.calls == len(attentions_of(twin))
    with monkeypatch.context() as patch:
        Rounded(patch, seen.ends)
        expected = output_of(base, call)
    assert relative_difference(expected, found) < 1e-6  # scales are float32's
    assert 1e-4 < relative_difference(output_of(base, call), found) < 0.2
