"""Channel salience: how far the values of an input channel reach (PTQ4DiT eq. 4)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def channel_salience(x: Float[Tensor, "*rest channel"]) -> Float[Tensor, " channel"]:
    """``s(X_j) = max |X_j|`` over everything but the channel (PTQ4DiT eq. 4).

    Args:
        x: activations ``(..., d_in)``, or a weight as PyTorch stores it, ``(d_out, d_in)``: the input channel is the
            last axis of both.

    Returns:
        ``(d_in,)``, non-negative.
    """
    return x.abs().reshape(-1, x.shape[-1]).amax(dim=0)


def weight_salience(weights: Sequence[Float[Tensor, "_ channel"]]) -> Float[Tensor, " channel"]:
    """Salience of the input channels of one or several weights that read the same input (q, k and v together).

    Args:
        weights: each ``(d_out, d_in)``; ``d_out`` may differ.

    Returns:
        ``(d_in,)``, the largest over all weights.
    """
    return torch.stack([channel_salience(weight) for weight in weights]).amax(dim=0)


def most_salient(salience: Float[Tensor, "*rest channel"], count: int) -> list[int]:
    """The channels of the largest salience over everything but the channel, the most salient first.

    Args:
        salience: such as ``(T, d_in)``.
        count: how many, at least 0; all where there are fewer.
    """
    return [int(j) for j in channel_salience(salience).argsort(descending=True, stable=True)[:count]]
