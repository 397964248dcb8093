"""Sampling with a model: denoising step by step, guidance, noise correction."""
