"""Every method on every text-conditioned family, from a stock pipeline to pictures."""

import dataclasses
import functools

import pytest
import torch

from ptq4dit.calibration.run import calibrate
from ptq4dit.calibration.trajectories import collect
from ptq4dit.config.calibration import CalibrationConfig
from ptq4dit.config.methods import method_names
from ptq4dit.config.quantization import QuantConfig
from ptq4dit.config.reconstruction import ReconstructionConfig
from ptq4dit.methods.registry import METHODS, quantize
from ptq4dit.model.bundle import load
from ptq4dit.model.layers import balanced_layers
from ptq4dit.quantized.linear import QuantizedLinear
from ptq4dit.sampling.denoise import generate
from tests.ptq4dit.tiny_pipelines import CALL, PIPELINES

PROMPTS = ["a red cube", "two cats, one dog", "a house"]
CALIBRATION = CalibrationConfig(timesteps=2, samples_per_timestep=2, steps=2, guidance_scale=2.0, rows_per_timestep=16)
SHORT = ReconstructionConfig(steps=2, images=2, timesteps=2, sampling_steps=2, held_out=0.0, batch_size=2)
OPTIONS = {"svdquant": {"rank": 4}, "qdit": {"budget_size": 8}}


PAIRS = [
    pytest.param(name, method, marks=() if i == j or (name == "sd3" and j >= len(PIPELINES)) else pytest.mark.long)
    for i, name in enumerate(PIPELINES)
    for j, method in enumerate(method_names())
    if name == "sd3" or i == j or (i + 2 * j) % 5 == 0
]
"""Every method once, the first on a family each and the others on SD3; in the long form on SD3 all, and on another."""


@functools.cache
def made(name):
    model = load(PIPELINES[name](), options=CALL[name])
    stats = calibrate(model, CALIBRATION, prompts=PROMPTS)
    return model, stats, collect(model, CALIBRATION, prompts=PROMPTS)


@pytest.fixture(scope="module", params=PIPELINES)
def case(request):
    return made(request.param)


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_every_method_draws_pictures_of_prompts(name, method):
    model, stats, data = made(name)
    config = QuantConfig(method=method, weight_bits=4, options=OPTIONS.get(method, {}))
    if METHODS[method].prepare(config).reconstruction is not None:
        config = dataclasses.replace(config, reconstruction=SHORT)
    result = quantize(model, stats, config, data=data)
    sites = balanced_layers(model.transformer)
    for site, layer in sites.items():
        assert all(isinstance(result.transformer.get_submodule(path), QuantizedLinear) for path in layer.paths), site
    exact, rounded = (generate(one, prompts=PROMPTS[:1], steps=2, seed=3) for one in (model, result))
    assert torch.isfinite(rounded).all() and not torch.equal(exact, rounded)
    assert result.transformer.ptq4dit_record.config.method == method


def test_prompts_are_those_of_each_image_whatever_the_batch(case):
    model, stats, _ = case
    other = calibrate(model, CALIBRATION, prompts=PROMPTS, batch_size=1)
    for layer in stats.layers:
        torch.testing.assert_close(stats.activation_max[layer], other.activation_max[layer], rtol=1e-3, atol=1e-3)


def test_no_prompts_is_one_sentence(case):
    with pytest.raises(ValueError, match="at least one prompt"):
        calibrate(case[0], CALIBRATION, prompts=[])
