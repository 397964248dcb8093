"""A transformer of one's own, a plain torch module, goes the whole way, to disk and back."""

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

import ptq4dit
from ptq4dit.checkpoint.manifest import WEIGHTS
from ptq4dit.model.fingerprint import fingerprint

WIDTH, HEADS, SIDE = 64, 4, 4


class Block(nn.Module):
    """As people write it: one projection for q, k and v, one for all six modulations."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.modulation = nn.Linear(WIDTH, 6 * WIDTH)

    def forward(self, x, condition):
        s1, b1, g1, s2, b2, g2 = self.modulation(silu(condition))[:, None].chunk(6, dim=-1)
        q, k, v = self.qkv(self.norm(x) * (1 + s1) + b1).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = x + g1 * self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + g2 * self.down(gelu(self.up(self.norm(x) * (1 + s2) + b2)))


class OwnDiT(nn.Module):
    """Tokens in, tokens out, the timestep an argument without a name that diffusers would give it."""

    def __init__(self, blocks=3):
        super().__init__()
        self.embed, self.time, self.head = nn.Linear(4, WIDTH), nn.Linear(1, WIDTH), nn.Linear(WIDTH, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))

    def forward(self, x, t):
        condition = self.time(t[:, None].float() / 1000)
        h = self.embed(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.head(h)


@torch.no_grad()
def sample(model, steps=8):
    x = torch.randn(3, SIDE * SIDE, 4, generator=torch.Generator().manual_seed(1))
    for t in torch.linspace(1000, 0, steps + 1)[:-1]:
        x = x - model(x, t.expand(3)) / steps
    return x


@pytest.fixture(scope="module")
def own():
    torch.manual_seed(0)
    return OwnDiT().eval()


@pytest.fixture(scope="module")
def stats(own):
    with ptq4dit.watch(own) as seen:
        sample(own)
    return seen.calibration()


def apart(one, other):
    return float((one - other).norm() / other.norm())


def test_it_is_quantized_and_run_on_integers(own, stats):
    before, wanted = fingerprint(own), sample(own)
    coarse, fine = (ptq4dit.quantize_transformer(own, stats, ptq4dit.QuantConfig(weight_bits=bits)) for bits in (4, 8))
    assert type(coarse) is OwnDiT and fingerprint(own) == before
    assert torch.equal(sample(own), wanted)
    assert 1e-4 < apart(sample(fine), wanted) < 0.02 < 3 * apart(sample(coarse), wanted) < 0.3
    assert apart(sample(ptq4dit.with_backend(fine, "integer")), sample(fine)) < 1e-2


@pytest.mark.parametrize("bits", [4, 8])
def test_it_comes_back_from_disk_bit_for_bit(own, stats, tmp_path, bits):
    model = ptq4dit.quantize_transformer(own, stats, ptq4dit.QuantConfig(weight_bits=bits))
    for _ in range(2):  # an older one is replaced
        ptq4dit.save_quantized(model, tmp_path / "own")
    torch.manual_seed(9)
    loaded = ptq4dit.load_quantized(tmp_path / "own", into=OwnDiT())
    assert torch.equal(sample(loaded), sample(model)) and loaded.ptq4dit_record == model.ptq4dit_record
    integers = ptq4dit.load_quantized(tmp_path / "own", backend="integer", into=OwnDiT())
    assert torch.equal(sample(integers), sample(ptq4dit.with_backend(model, "integer")))
    floats = sum(4 * value.numel() for value in own.parameters())
    assert (tmp_path / "own" / WEIGHTS).stat().st_size < (0.6 if bits == 8 else 0.5) * floats


def test_what_does_not_fit_is_a_sentence(own, stats, tmp_path):
    ptq4dit.save_quantized(ptq4dit.quantize_transformer(own, stats), tmp_path / "own")
    with pytest.raises(ValueError, match=r"Expected into=..., a float OwnDiT for the weights in"):
        ptq4dit.load_quantized(tmp_path / "own")
    with pytest.raises(ValueError, match=r"Expected exactly the tensors of this OwnDiT, got \d+ missing or unknown"):
        ptq4dit.load_quantized(tmp_path / "own", into=OwnDiT(blocks=4))
    with pytest.raises(ValueError, match=r"Expected a linear layer .* in a Linear, got none"):
        ptq4dit.load_quantized(tmp_path / "own", into=nn.Linear(2, 2))
    with pytest.raises(ValueError, match="Expected a quantized model, got a float one"):
        ptq4dit.save_quantized(own, tmp_path / "float")
    (tmp_path / "own" / WEIGHTS).write_bytes(b"0" * 100)
    with pytest.raises(ValueError, match="a damaged file"):
        ptq4dit.load_quantized(tmp_path / "own", into=OwnDiT())


def test_its_calibration_is_of_these_weights(own, stats):
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="Expected"):
        ptq4dit.quantize_transformer(OwnDiT().eval(), stats, ptq4dit.QuantConfig())


@pytest.mark.usefixtures("untyped")
def test_what_is_no_module_cannot_be_watched():
    with pytest.raises(ValueError, match="Expected a transformer, a torch module, got a str"), ptq4dit.watch("own"):
        pass
