"""Tiny quantized transformers of every family, made once a process, and how two of them are compared."""

import functools

import torch

from ptq4dit import QuantConfig, quantize_transformer, watch
from ptq4dit.model.families.family import Call
from tests.ptq4dit.model.tiny_models import output_of, tiny

TIMES = (900, 450, 20)


@functools.cache
def quantized(name, dtype=torch.float32, **settings):
    """A transformer of `TINY`, its calibration, the quantized one, and a call."""
    transformer, call = tiny(name, dtype)
    argument = next(key for key in ("timestep", "t") if key in call.kwargs)
    calls = [Call(kwargs=call.kwargs | {argument: torch.full_like(call.kwargs[argument], time)}) for time in TIMES]
    with watch(transformer) as seen, torch.no_grad():
        for each in calls:
            each.on(transformer)
    stats = seen.calibration()
    config = QuantConfig(**({"weight_bits": 4} | settings))
    return transformer, stats, quantize_transformer(transformer, stats, config), calls[1]


def require_same(first, second, call=None):
    """Every tensor of two transformers has the same bits and type, saved or not; and the outputs have."""
    for kind in ("state_dict", "named_buffers", "named_parameters"):
        one, two = (dict(getattr(model, kind)()) for model in (first, second))
        assert list(one) == list(two)
        for key, value in one.items():
            assert value.dtype == two[key].dtype and torch.equal(value, two[key]), (kind, key)
    if call is not None:
        assert torch.equal(output_of(first, call), output_of(second, call))


def said(capfd):
    """Lines on stderr, progress bars apart."""
    return [
        line for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line
    ]
