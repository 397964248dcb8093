"""What a forward makes of its inputs: which of them leave the tensors, and what a trace may compute beforehand."""

import pytest
import torch

from ptq4dit.backends.call import take_apart
from ptq4dit.backends.dependence import Dependence
from ptq4dit.backends.rewritten import REWRITTEN


def read(function, *tensors):
    with Dependence(dict(enumerate(tensors))) as seen:
        function(*tensors)
    return seen.read


@pytest.mark.parametrize(
    "function",
    [
        lambda x, mask: x[:, : int(mask.sum())],
        lambda x, mask: x if mask.any() else -x,
        lambda x, mask: x[:, : max(mask.sum(1).tolist())],
        lambda x, mask: x[mask.bool()],
        lambda x, mask: x.masked_select(mask.bool()),
        lambda x, mask: [x[0, i] for i in mask[0]],
        lambda x, mask: x + (mask.float() * 2).max().item(),
        lambda x, mask: x.new_zeros(mask.shape).copy_(mask).numpy(),
    ],
)
def test_values_that_leave_the_tensors_are_seen(function):
    assert read(function, torch.randn(2, 3), torch.ones(2, 3).long()) == {1}


@pytest.mark.parametrize(
    "function",
    [
        lambda x, mask: x + mask,
        lambda x, mask: x.reshape(len(mask), -1, mask.shape[1]),
        lambda x, mask: torch.where(mask.bool(), x, 0.0) if mask.ndim == 2 and mask.dtype == torch.int64 else x,
        lambda x, mask: x.masked_fill(mask == 0, 1.0).view(mask.size(0), mask.size(1)).T,
        lambda x, mask: torch.zeros(int(torch.ones(2).sum()), 3) + x * mask,
    ],
)
def test_shapes_types_and_arithmetic_are_not(function):
    assert read(function, torch.randn(2, 3), torch.ones(2, 3).long()) == set()


def test_what_is_written_into_a_tensor_stays_known():
    def function(x, mask):
        kept = torch.zeros(2, 3)
        kept[0] = mask[0]
        return float(kept.sum())

    assert read(function, torch.randn(2, 3), torch.ones(2, 3).long()) == {1}


@pytest.mark.parametrize("start", [0, 1])
def test_setting_every_second_value_is_written_in_other_operations(start):
    target, value = torch.zeros(2, 6), torch.randn(2, 3)
    expected = target.clone()
    index = (..., slice(start, None, 2))
    expected[index] = value
    assert REWRITTEN["__setitem__"].fits(target, index, value)
    REWRITTEN["__setitem__"].run(target, index, value)
    assert torch.equal(target, expected)
    for other in (0, (0, slice(None)), (..., slice(0, 2)), (..., slice(0, None, 4))):
        assert not REWRITTEN["__setitem__"].fits(target, other, value)


def test_padding_a_list_is_written_in_other_operations():
    parts = [torch.randn(2, 4), torch.randn(5, 4)]
    for first in (True, False):
        expected = torch.nn.utils.rnn.pad_sequence(parts, first, 3.0)
        assert torch.equal(REWRITTEN["pad_sequence"].run(parts, first, 3.0), expected)


def function(x, labels=None, options=None, return_dict=True):
    return x


def test_one_call_has_one_form():
    x, y = torch.randn(2, 3), torch.randn(5, 3).double()
    one, other = take_apart(function, (x,), {}), take_apart(function, (), {"return_dict": True, "x": y})
    assert one.structure == other.structure and one.shapes != other.shapes
    for args, kwargs in (((x, 3), {}), ((x,), {"return_dict": False}), ((x.long(),), {}), ((x[0],), {})):
        assert take_apart(function, args, kwargs).structure != one.structure
    nested = take_apart(function, (x,), {"options": {"size": [x, 4]}})
    assert nested.names == ("x", "labels", "options['size'][0]", "options['size'][1]", "return_dict")
    args, kwargs = nested.arguments({2: y})
    assert args[0] is x and args[2]["size"][0] is y and args[2]["size"][1] == 4 and not kwargs
