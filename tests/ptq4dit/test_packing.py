import pytest
import torch

from ptq4dit.numerics.packing import pack_int4, unpack_int4


@pytest.mark.parametrize("columns", [1, 2, 7, 16])
def test_round_trip(columns):
    q = torch.randint(0, 16, (5, columns), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    packed = pack_int4(q)
    assert packed.shape == (5, (columns + 1) // 2)
    assert torch.equal(unpack_int4(packed, columns), q)


def test_by_hand():
    assert pack_int4(torch.tensor([[1, 15, 2]], dtype=torch.uint8)).tolist() == [[0xF1, 0x02]]


def test_refuses():
    with pytest.raises(ValueError, match="0 to 15, got 16"):
        pack_int4(torch.tensor([[16]], dtype=torch.uint8))
    with pytest.raises(ValueError, match="Expected 3 packed columns for 5, got 2"):
        unpack_int4(torch.zeros(1, 2, dtype=torch.uint8), 5)
