import pytest
import torch

from ptq4dit.numerics.logarithmic import dequantize_log, fake_quantize_log, quantize_log


@pytest.mark.parametrize(("base", "root"), [("log2", 2.0), ("log_sqrt2", 2.0**0.5)])
@pytest.mark.parametrize("bits", [3, 4, 8])
def test_nearest_power_in_the_log_domain(base, root, bits):
    x = torch.rand(500, generator=torch.Generator().manual_seed(0)) ** 6
    powers = root ** -torch.arange(2**bits, dtype=torch.float64)
    expected = (x.double().log()[:, None] - powers.log()).abs().argmin(1)
    assert torch.equal(quantize_log(x, bits, base).long(), expected)
    torch.testing.assert_close(fake_quantize_log(x, bits, base).double(), powers[expected], rtol=1e-5, atol=0)


def test_sqrt_2_by_shift_and_parity_equals_the_power():
    q = torch.arange(16, dtype=torch.uint8)
    torch.testing.assert_close(dequantize_log(q, "log_sqrt2"), 2.0 ** (-q.float() / 2))


def test_ends():
    q = quantize_log(torch.tensor([0.0, 1.0, 1e-30]), 4)
    assert q.tolist() == [15, 0, 15]
