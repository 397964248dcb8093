"""Recorded calls and quantized twins of tiny random transformers of every family, without a pipeline around them."""

import copy
import dataclasses

import torch
from torch import nn

from ptq4dit.calibration.joined_calls import Part, join
from ptq4dit.calibration.recorded_calls import RecordedCall
from ptq4dit.calibration.trajectories import Trajectories
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.quantization import LayerConfig
from ptq4dit.model.families.registry import family_of
from ptq4dit.quantized.linear import QuantizedLinear, QuantizedPatchEmbed
from tests.ptq4dit.model.tiny_models import TINY, tiny

W4A8 = LayerConfig(weight_bits=4, activation_bits=8)


def recorded(name, transformer, calls=6):
    """Trajectories of ``2 * calls`` images, one sample each, with random inputs."""
    parts = []
    for index in range(calls):
        generator = torch.Generator().manual_seed(100 + index)
        inputs = TINY[name].inputs(lambda *shape, g=generator: torch.randn(shape, generator=g))
        call = RecordedCall.of(transformer, (), inputs)
        if parts:  # position tables are random here, and belong to all calls
            call = dataclasses.replace(call, constants=dict(parts[0].call.constants))
        parts.append(Part(step=0, half=0, images=range(2 * index, 2 * index + 2), call=call))
    config = CalibrationConfig(timesteps=1, samples_per_timestep=2 * calls, guidance_scale=1.0)
    return Trajectories(config=config, **join(parts))


def family_case(name, calls=6, config=W4A8):
    """A float transformer, its twin rounded to nearest, and recorded calls."""
    exact, _ = tiny(name, dtype=torch.float32)
    data = recorded(name, exact, calls)
    return exact, rounded(exact, data, config), data


def rounded(exact, data, config=W4A8):
    """The transformer with every linear of its sites quantized, input ranges as seen on the data."""
    sites = family_of(exact).sites(exact, data.call(slice(0, 2)))
    ranges, result = (
        _ranges(exact, [path for site in sites.values() for path in site.paths], data),
        copy.deepcopy(exact),
    )
    for path, limits in ranges.items():
        like = exact.get_submodule(path)
        kind = QuantizedPatchEmbed if isinstance(like, nn.Conv2d) else QuantizedLinear
        result.set_submodule(path, kind.from_float(like, config, limits))
    return result


@torch.no_grad()
def _ranges(transformer, paths, data):
    seen = {}

    def note(path):
        def hook(_module, args):
            low, high = torch.aminmax(args[0])
            before = seen.get(path, (low, high))
            seen[path] = torch.minimum(low, before[0]), torch.maximum(high, before[1])

        return hook

    handles = [transformer.get_submodule(path).register_forward_pre_hook(note(path)) for path in paths]
    data.call(slice(None)).on(transformer)
    for handle in handles:
        handle.remove()
    return seen
