"""How an image's time is shared out: both parts of an integer transformer are watched, and left as they were."""

import pytest
from torch import nn

from ptq4dit.backends.transformer import IntegerDit
from ptq4dit.speed.images import _watched


class Parts(IntegerDit):
    def __init__(self):
        nn.Module.__init__(self)
        self.step = self.own = lambda given: given + 1

    def modulate(self, given):
        return 2 * given


def test_both_parts_are_timed_in_the_block_only():
    parts, spent = Parts(), dict.fromkeys(("conditioning", "steps"), 0.0)
    with pytest.raises(KeyError, match="whatever"), _watched(parts, spent):
        assert parts.modulate(3) == 6 and spent["conditioning"] > 0 == spent["steps"]
        assert parts.step(3) == 4 and spent["steps"] > 0
        raise KeyError("whatever")
    assert parts.step is parts.own and "modulate" not in vars(parts) and parts.modulate(3) == 6


def test_a_float_transformer_is_left_alone():
    linear, spent = nn.Linear(1, 1), {}
    with _watched(linear, spent):
        assert "step" not in vars(linear)
    assert spent == {}
