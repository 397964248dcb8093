"""The timestep's sinusoids of a diffusers DiT as numbers that a graph can hold."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def frequencies(embedder: Any) -> NDArray[np.float32]:
    """``w_k`` of ``[cos(t w_k), sin(t w_k)]``, ``10000^(-k / (n - shift))`` for k below n.

    Args:
        embedder: diffusers' ``CombinedTimestepLabelEmbeddings``.

    Raises:
        ValueError: if sines come first, which no DiT has.
    """
    projection = embedder.time_proj
    if not projection.flip_sin_to_cos:
        raise ValueError("Expected cosines before sines in the timestep embedding (flip_sin_to_cos), got the reverse.")
    half = projection.num_channels // 2
    exponent = -math.log(10000) * np.arange(half) / (half - projection.downscale_freq_shift)
    return np.exp(exponent).astype(np.float32)


def sinusoids(embedder: Any, timesteps: int) -> NDArray[np.float32]:
    """``[cos(t w_k), sin(t w_k)]`` of every whole timestep t below ``timesteps``, one row each."""
    angles = np.arange(timesteps, dtype=np.float32)[:, None] * frequencies(embedder)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
