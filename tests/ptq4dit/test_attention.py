import copy
import threading

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

from ptq4dit.config.quantization import LayerConfig
from ptq4dit.numerics.affine import AffineSpec, affine_from_range, fake_quantize
from ptq4dit.quantized.attention import QuantizedAttnProcessor
from ptq4dit.quantized.timestep_groups import TimestepClock


def attention(processor=None, dtype=torch.float64):
    torch.manual_seed(0)
    return Attention(16, heads=2, dim_head=8, bias=True, processor=processor or AttnProcessor2_0()).to(dtype).eval()


X = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("processor", [AttnProcessor(), AttnProcessor2_0()])
def test_without_rounding_it_is_diffusers_attention(processor):
    ours = QuantizedAttnProcessor(LayerConfig(), attention_bits=16, softmax_bits=16)
    assert (attention(ours)(X) - attention(processor)(X)).abs().max() < 1e-12
    assert not ours.state_dict()


@torch.no_grad()
def test_equals_the_rounding_written_out():
    ours = QuantizedAttnProcessor(LayerConfig(), attention_bits=4, softmax_bits=8).double()
    ranges = {part: (torch.tensor(-2.0), torch.tensor(1.5)) for part in "qkv"}
    ours.set_ranges(**ranges, softmax=(torch.tensor(0.1), torch.tensor(0.9)))
    module = attention(ours)

    def rounded(x, low, high, bits):
        spec = AffineSpec(bits=bits)
        scale, zero_point = affine_from_range(torch.tensor(low), torch.tensor(high), spec)
        return fake_quantize(x, scale.double(), zero_point, spec)

    q, k, v = (
        rounded(linear(X), -2.0, 1.5, 4).unflatten(-1, (2, 8)).transpose(1, 2)
        for linear in (module.to_q, module.to_k, module.to_v)
    )
    weights = rounded(torch.softmax(q @ k.transpose(2, 3) / 8**0.5, -1), 0.0, 0.9, 8)
    expected = module.to_out[0]((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(X), expected, rtol=0, atol=1e-6)
    assert int(ours.softmax_zero_point) == 0
    assert {name for name in module.state_dict() if "processor" in name} == {
        f"processor.{part}_{kind}" for part in ("q", "k", "v", "softmax") for kind in ("scale", "zero_point")
    }


@torch.no_grad()
def test_more_bits_are_closer_and_log_sqrt2_needs_no_range():
    exact = attention()(X)
    errors = []
    for bits in (3, 5, 8):
        ours = QuantizedAttnProcessor(
            LayerConfig(activation_granularity="per_token"), attention_bits=bits, softmax_bits=bits
        )
        errors.append(float((attention(ours)(X) - exact).abs().mean()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0
    log = QuantizedAttnProcessor(LayerConfig(), attention_bits=16, softmax_bits=4, softmax="log_sqrt2")
    assert not log.state_dict() and (attention(log)(X) - exact).abs().mean() < errors[0]


@torch.no_grad()
def test_each_row_takes_the_scale_of_its_timestep():
    clock = TimestepClock(2)
    assert clock.fit(torch.tensor([900, 600, 300, 0])) == [slice(0, 2), slice(2, 4)]
    config = LayerConfig(activation_granularity="per_timestep_group", timestep_groups=2)
    ours = QuantizedAttnProcessor(config, attention_bits=4, softmax_bits=16, clock=clock).double()
    low, high = torch.tensor([-1.0, -3.0]), torch.tensor([1.0, 3.0])
    ours.set_ranges(q=(low, high), k=(low, high), v=(low, high))
    module = attention(ours)
    with pytest.raises(ValueError, match="timestep of this forward pass"):
        module(X)
    clock.tell(torch.tensor([800, 100, 451]))
    mixed = module(X)
    for row, group in enumerate((0, 1, 0)):
        single = QuantizedAttnProcessor(LayerConfig(), attention_bits=4, softmax_bits=16).double()
        single.set_ranges(**{part: (low[group], high[group]) for part in "qkv"})
        torch.testing.assert_close(mixed[row], attention(single)(X)[row])
    copied = copy.deepcopy(module)  # with a clock of its own
    with pytest.raises(ValueError, match="timestep of this forward pass"):
        copied(X)
    copied.processor._clock[0].tell(torch.tensor([800, 100, 451]))
    assert torch.equal(copied(X), mixed)


def test_a_clock_tells_each_thread_what_it_was_told_there():
    clock, values, heard = TimestepClock(2), torch.tensor([10.0, 20.0]), []
    clock.fit(torch.tensor([900, 600, 300, 0]))
    clock.tell(torch.tensor([800]))

    def another() -> None:
        heard.append(clock.groups)
        clock.tell(torch.tensor([100]))
        heard.append(clock.pick(values, torch.zeros(1, 3)).item())

    thread = threading.Thread(target=another)
    thread.start()
    thread.join()
    assert heard == [None, 20.0] and clock.pick(values, torch.zeros(1, 3)).item() == 10.0
