"""Shared fixtures: tiny random models, made here, that exercise every path of the engine in seconds."""

import os

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side: threads would wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def random_transformer(seed=0, **overrides):
    """A tiny DiT whose every weight is random: adaLN-zero's initial zeros would make most tests trivial."""
    from diffusers import DiTTransformer2DModel

    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "in_channels": 4,
        "num_layers": 2,
        "sample_size": 8,
        "num_embeds_ada_norm": 5,
        "norm_num_groups": 4,
    }
    transformer = DiTTransformer2DModel(**(config | overrides)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            fan_in = parameter.shape[1:].numel() if parameter.ndim > 1 else 16
            noise = torch.randn(parameter.shape, generator=generator) / fan_in**0.5
            parameter.copy_(noise if "embedding_table" not in name else noise * 4)
    return transformer


def random_vae(seed=0):
    """A tiny AutoencoderKL: 4x8x8 latents <-> 3x16x16 pixels."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        scaling_factor=0.7,
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in vae.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[1:].numel() ** 0.5)
    return vae


def ddim_scheduler():
    """The scheduler that DiT ships with."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=False, set_alpha_to_one=True)


@pytest.fixture(scope="session")
def make_dit():
    """Build a tiny random bundle: ``make_dit(seed=0, dtype=torch.float32, **transformer config)``."""

    def make(seed=0, dtype=torch.float32, **overrides):
        from ptq4dit.model.bundle import bundle

        transformer = torch.nn.Module.to(random_transformer(seed, **overrides), dtype)
        names = {0: "sphere", 1: "cube", 2: "cone", 3: "torus", 4: "cross"}
        return bundle(transformer, torch.nn.Module.to(random_vae(seed), dtype), ddim_scheduler(), names)

    return make


@pytest.fixture(scope="session")
def dit(make_dit):
    """The tiny bundle that most tests share; nothing may modify it."""
    return make_dit()


@pytest.fixture
def untyped(monkeypatch):
    """What a user has: annotations that nobody checks."""
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
