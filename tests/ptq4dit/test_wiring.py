"""Where the arguments of blocks come from, on transformers that are written here."""

import pytest
import torch
from torch import nn

from ptq4dit.model.families.family import Call
from ptq4dit.reconstruction.wiring import find_wiring


class Block(nn.Module):
    """Two streams in, two streams out, the second one unchanged in kind."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, context, *, table=None, size=0, mask=None):
        return context + 1, self.linear(x)


class Model(nn.Module):
    """``way`` says what happens between its two blocks."""

    def __init__(self, way="plain"):
        super().__init__()
        self.blocks, self.way = nn.ModuleList([Block(), Block(), Block()]), way

    def forward(self, x, context):
        table, mask = torch.arange(6.0), x[:, :1] > 0
        given = {"table": table, "size": 3, "mask": mask}
        context, x = self.blocks[0](x, context, **given)
        if self.way == "twice":
            context, x = self.blocks[0](x, context, **given)
        if self.way == "made":
            x = x + context.mean()
        if self.way == "written":
            x += 1
        if self.way == "other table":
            given["table"] = torch.arange(6.0)
        if self.way == "folded":
            x, context = x.flatten(0, 1), context.flatten(0, 1)
        context, x = self.blocks[1](x, context, **given)
        return x


def wired(way):
    torch.manual_seed(0)
    calls = [(n, Call(args=(torch.randn(n, 5, 4), torch.randn(n, 2, 4)))) for n in (2, 3)]
    if way == "folded":
        calls = [(n, Call(args=(torch.randn(n, 5, 4), torch.randn(n, 5, 4)))) for n in (2, 3)]
    return find_wiring(Model(way), [f"blocks.{i}" for i in (2, 1, 0)], calls)


def test_arguments_are_recognised_by_identity():
    first, second = wired("plain")
    assert [first.path, second.path] == ["blocks.0", "blocks.1"], "in the order of the forward, without the unused one"
    assert not first.follows and second.follows
    assert first.rows == second.rows == (1, 1, 0, 0, 1)
    assert second.sources == (("output", 1), ("output", 0), ("argument", 2), ("constant", 3), ("argument", 4))
    assert second.constants[3] == 3


@pytest.mark.parametrize("way", ["made", "written", "twice"])
def test_what_is_made_between_blocks_is_recorded(way):
    _, second = wired(way)
    assert second.sources[0] is None and not second.follows
    assert second.sources[4] == ("argument", 4)


def test_an_equal_table_is_a_constant():
    _, second = wired("other table")
    assert second.sources[2] == ("constant", 2) and second.follows
    assert torch.equal(second.constants[2], torch.arange(6.0))


def test_samples_may_have_several_rows():
    _, second = wired("folded")
    assert second.rows == (5, 5, 0, 0, 1) and second.sources[:2] == (None, None)


def test_a_model_that_uses_no_block_is_refused():
    with pytest.raises(ValueError, match="uses none of them"):
        find_wiring(Model(), ["blocks.2"], [(n, Call(args=(torch.randn(n, 5, 4),) * 2)) for n in (2, 3)])


def test_arguments_that_belong_to_no_sample_are_refused():
    """One row more than there are samples."""

    class Odd(Model):
        def forward(self, x, context):
            return self.blocks[0](torch.cat([x, x[:1]]), context)

    with pytest.raises(ValueError, match="with rows for every sample, got 3 and 4"):
        find_wiring(Odd(), ["blocks.0"], [(n, Call(args=(torch.randn(n, 5, 4),) * 2)) for n in (2, 3)])
