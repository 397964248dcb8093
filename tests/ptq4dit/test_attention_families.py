"""Rounded attention of every family: against the definition written out, saved and loaded, or refused by name."""

import copy
import dataclasses
import pickle

import pytest
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
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
    _, _, base, call = quantized(name, torch.float64, **FLOAT)
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


def test_balancing_scales_the_values_with_the_model():
    """Factors of the output projection are folded into what makes v: so are its ranges, and all else stays."""
    _, stats, _, _ = quantized("flux", torch.float64, **FLOAT)
    _, _, plain, _ = quantized("flux", torch.float64, **FLOAT, csb=False, ssc=False, **ROUNDED)
    _, _, balanced, _ = quantized("flux", torch.float64, **FLOAT, **ROUNDED)
    for path in ATTENTIONS["flux"]:
        one, other = (model.get_submodule(f"{path}.ptq4dit_attention") for model in (plain, balanced))
        for part in ("q", "k", "softmax"):
            assert torch.equal(getattr(one, f"{part}_scale"), getattr(other, f"{part}_scale"))
        assert not torch.equal(one.v_scale, other.v_scale)
        assert stats.extra_min[f"{path}.v"].shape == (len(TIMES), 16)


class Attention(nn.Module):
    """Somebody's own: fewer heads of k and v, a scale of its own, causal."""

    def __init__(self):
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        q = self.q(x).unflatten(-1, (4, 4)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, 2, 4)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.7, enable_gqa=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.up, self.down = Attention(), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.down(F.gelu(self.up(x)))


class Own(ModelMixin, ConfigMixin):
    """Nothing of diffusers in it but how it is saved."""

    @register_to_config
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x, timestep):
        x = x + torch.cos(timestep / 100)[:, None, None]
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture(scope="module")
def own():
    torch.manual_seed(0)
    model, x = Own().eval(), torch.randn(2, 7, 16)
    with watch(model) as seen, torch.no_grad():
        for time in TIMES:
            model(x, torch.full((2,), float(time)))
    return model, seen.calibration(), x


@torch.no_grad()
@pytest.mark.parametrize("symmetric", [False, True])
def test_ones_own_model_too(own, monkeypatch, symmetric):
    model, stats, x = own
    settings = QuantConfig(**FLOAT, **ROUNDED, csb=False, ssc=False, activation_symmetric=symmetric)
    twin = quantize_transformer(model, stats, settings)
    assert attentions_of(twin) == ["blocks.0.attention", "blocks.1.attention"]
    given = x, torch.full((2,), 450.0)
    found = twin(*given)
    with monkeypatch.context() as patch:
        seen = Ranges(patch)
        for time in TIMES:
            seen.calls = 0
            model(x, torch.full((2,), float(time)))
    with monkeypatch.context() as patch:
        Rounded(patch, seen.ends, symmetric)
        expected = model(*given)
    assert relative_difference(expected, found) < 1e-4 < relative_difference(model(*given), found)


@torch.no_grad()
def test_copied_or_pickled_it_rounds_alike_and_shares_nothing(own):
    model, stats, x = own
    twin = quantize_transformer(model, stats, QuantConfig(**FLOAT, **ROUNDED))
    given = x, torch.full((2,), 450.0)
    found = twin(*given)
    for other in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        assert (
            isinstance(other.blocks[0].attention, Attention) and type(other.blocks[0].attention).__name__ == "Attention"
        )
        assert torch.equal(other(*given), found)
        other.blocks[0].attention.ptq4dit_attention.v_scale.mul_(3)
        assert not torch.equal(other(*given), found)
    assert torch.equal(twin(*given), found)
    assert type(model.blocks[0].attention) is Attention


@torch.no_grad()
@pytest.mark.parametrize(
    "settings",
    [
        {"activation_granularity": "per_token"},
        {"activation_granularity": "per_timestep_group", "timestep_groups": 3},
        {"method": "repq", "softmax_bits": 4},
    ],
    ids=["found for every token", "by timestep", "logarithmic softmax"],
)
def test_all_ways_of_rounding(own, settings):
    model, stats, x = own
    twin = quantize_transformer(model, stats, QuantConfig(**FLOAT | ROUNDED | {"csb": False, "ssc": False} | settings))
    given = x, torch.full((2,), 450.0)
    assert 1e-5 < relative_difference(model(*given), twin(*given)) < 0.3
    if "timestep_groups" in settings:
        rounding = twin.blocks[0].attention.ptq4dit_attention
        before = twin(*given)
        rounding.q_scale[[0, 2]] *= 7  # of the other timesteps
        assert torch.equal(twin(*given), before)
        mixed = twin(x, torch.tensor([450.0, 20.0]))
        torch.testing.assert_close(mixed[0], before[0])
        assert relative_difference(twin(x, torch.full((2,), 20.0))[1], mixed[1]) < 1e-5


def test_an_own_grid_is_one_for_all_heads_of_a_token():
    rounding = RoundedProduct(
        dataclasses.replace(QuantConfig().layer("attention"), activation_granularity="per_token"),
        attention_bits=2,
        softmax_bits=16,
    )
    x = torch.tensor([[0.0, 1.0], [0.0, 30.0]])[None, :, None]  # (row, head, token, channel)
    assert rounding._round_tokens("q", x)[0, 0].tolist() == [[0.0, 0.0]]


def test_what_cannot_be_rounded_is_refused_by_name(own):
    transformer, stats, *_ = quantized("sana")
    linear = r"'transformer_blocks\.0\.attn1', got another way in SanaLinearAttn.*attention_bits and softmax_bits at 16"
    with pytest.raises(ValueError, match=linear):
        quantize_transformer(transformer, stats, QuantConfig(attention_bits=8))
    model, stats, _ = own
    before = dataclasses.replace(stats, extra_min={}, extra_max={})
    with pytest.raises(ValueError, match=r"ranges of q, k, v and the softmax.*earlier version.*Calibrate again"):
        quantize_transformer(model, before, QuantConfig(softmax_bits=8))
    assert not attentions_of(quantize_transformer(model, before, QuantConfig()))


def test_another_way_to_the_same_product_later_is_no_silent_float(own):
    model, stats, x = own
    twin = quantize_transformer(model, stats, QuantConfig(**ROUNDED))
    twin.blocks[1].attention.forward = lambda x: x
    with pytest.raises(ValueError, match="Expected a Attention that asks torch for scaled_dot_product_attention"):
        twin(x, torch.full((2,), 450.0))
    with pytest.raises(ValueError, match="without dropout"):
        rounding = twin.blocks[0].attention
        rounding.forward = lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
        rounding(x)


def test_cuda_refuses_it_by_name(own):
    model, stats, _ = own
    with pytest.raises(ValueError, match=r"'blocks.0.attention'.*on CUDA.*attention_bits=16"):
        require_float_attention(quantize_transformer(model, stats, QuantConfig(**ROUNDED)))


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_saved_and_loaded_by_diffusers_to_the_last_bit(name, tmp_path):
    _, _, twin, call = quantized(name, **ROUNDED)
    twin.save_pretrained(tmp_path)
    again = type(twin).from_pretrained(tmp_path)
    assert attentions_of(again) == attentions_of(twin)
    require_same(twin, again, call)
    half = type(twin).from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    scale = half.transformer_blocks[0].attn.ptq4dit_attention.q_scale
    own = twin.transformer_blocks[0].attn.ptq4dit_attention.q_scale
    assert scale.dtype == torch.float32 and torch.equal(scale, own)


def test_files_that_name_no_attention_are_refused():
    _, _, twin, _ = quantized("sd3", **ROUNDED)
    said = twin.ptq4dit_record.to_dict()
    assert said["attentions"] == ATTENTIONS["sd3"]
    assert QuantRecord.from_dict(said) == twin.ptq4dit_record
    assert "attentions" not in quantized("sd3")[2].ptq4dit_record.to_dict()
    for wrong in ([""], ["a", "a"], [3], "attn"):
        with pytest.raises(ValueError, match="attentions"):
            QuantRecord.from_dict(said | {"attentions": wrong})
