import pytest
import torch

from ptq4dit.model.families.family import Call
from ptq4dit.sampling.denoise import generate, guided
from ptq4dit.sampling.noise_correction import NoiseCorrection, _split, estimate_noise_correction


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def estimated(dit, model, latents, timesteps, labels):
    """The correction for these inputs of a class-conditional model."""

    def call(rows):
        return Call(args=(latents[rows],), kwargs={"timestep": timesteps[rows], "class_labels": labels[rows]})

    return estimate_noise_correction(dit, model, timesteps, call, (4, 8, 8))


@pytest.mark.parametrize("tokens", [False, True])
def test_finds_the_parts_that_were_put_in(tokens):
    """Channels stand behind the samples in pictures, at the end in tokens."""
    exact, rest = gaussian(64, 4, 8, 8), gaussian(64, 4, 8, 8, seed=1) * 0.1
    bias = torch.tensor([0.2, -0.1, 0.0, 0.05], dtype=torch.float64)
    rounded = 1.05 * exact + bias[:, None, None] + rest
    if tokens:
        exact, rounded = (values.flatten(2).transpose(1, 2) for values in (exact, rounded))
    slope, found, variance = _split(exact, rounded)
    assert abs(float(slope) - 0.05) < 2e-3 and (found - bias).abs().max() < 3e-3
    assert abs(float(variance) - 0.01) < 5e-4


def test_corrects_exactly_what_is_correlated_and_biased_and_interpolates():
    correction = NoiseCorrection(
        timesteps=torch.tensor([100, 300]),
        correlation=torch.tensor([0.1, 0.3]),
        bias=torch.tensor([[0.0, 1.0], [2.0, 3.0]]),
        variance=torch.zeros(2),
    )
    exact = gaussian(3, 2, 4, 4).float()
    for timestep, k, bias in (
        (100, 0.1, [0, 1]),
        (200, 0.2, [1, 2]),
        (300, 0.3, [2, 3]),
        (0, 0.1, [0, 1]),
        (999, 0.3, [2, 3]),
    ):
        given = (1 + k) * exact + torch.tensor(bias).float()[None, :, None, None]
        torch.testing.assert_close(correction.correct(given, timestep), exact, rtol=1e-5, atol=1e-5)
    again = NoiseCorrection.from_tensors(correction.tensors())
    assert torch.equal(again.bias, correction.bias)


def test_a_model_against_itself_needs_no_correction(dit):
    import dataclasses

    latents, timesteps = gaussian(6, 4, 8, 8).float(), torch.tensor([10, 10, 10, 500, 500, 500])
    labels = torch.tensor([0, 1, 5, 0, 1, 5])
    correction = estimated(dit, dit, latents, timesteps, labels)
    assert correction.timesteps.tolist() == [10, 500]
    assert correction.correlation.abs().max() == correction.bias.abs().max() == correction.variance.abs().max() == 0
    corrected = dataclasses.replace(dit, noise_correction=correction)
    assert torch.equal(generate(corrected, [1], steps=3), generate(dit, [1], steps=3))


@torch.no_grad()
def test_undoes_a_systematic_error_of_the_model(dit, make_dit):
    import dataclasses

    wrong = make_dit()
    with torch.no_grad():
        wrong.transformer.proj_out_2.weight *= 1.1
        wrong.transformer.proj_out_2.bias *= 1.1
    latents, timesteps = gaussian(12, 4, 8, 8).float(), torch.tensor([0, 333, 666]).repeat(4)
    correction = estimated(dit, wrong, latents, timesteps, torch.arange(12) % 6)
    corrected = dataclasses.replace(wrong, noise_correction=correction)
    for timestep in (0, 333, 666):
        expected, mended, broken = (guided(m, [1], 4.0)(latents[:1], timestep) for m in (dit, corrected, wrong))
        assert (mended - expected).abs().max() < 1e-4 < (broken - expected).abs().max()
