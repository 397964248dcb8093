"""Spearman's rho-guided Salience Calibration: one activation salience out of many timesteps (PTQ4DiT eqs. 10, 11)."""

import torch
from jaxtyping import Float
from torch import Tensor


def spearman_rho(a: Float[Tensor, "*#batch channel"], b: Float[Tensor, "*#batch channel"]) -> Float[Tensor, "*batch"]:
    """Spearman's rank correlation over the last axis: Pearson's correlation of the ranks, ties given their mean rank.

    Deviation: where ``a`` or ``b`` is constant the correlation is undefined (scipy returns nan); 0 is returned, since
    a constant salience says nothing for or against complementarity and a nan would spread over all timestep weights.

    Args:
        a: ``(..., d)``.
        b: ``(..., d)``, broadcast against ``a``.

    Returns:
        ``(...,)`` in [-1, 1].
    """
    rank_a, rank_b = _centred_ranks(a), _centred_ranks(b)
    covariance = (rank_a * rank_b).sum(dim=-1)
    norm = (rank_a.square().sum(dim=-1) * rank_b.square().sum(dim=-1)).sqrt()
    rho = torch.where(norm > 0, covariance / norm.clamp(min=torch.finfo(norm.dtype).tiny), 0.0)
    return rho.clamp(-1, 1).to(a.dtype)


def timestep_weights(
    activation_salience: Float[Tensor, "timestep channel"], weight_salience: Float[Tensor, " channel"]
) -> Float[Tensor, " timestep"]:
    """``eta_t = softmax_t(-rho(s(X[t]), s(W)))`` (PTQ4DiT eq. 11): complementary timesteps weigh more.

    Args:
        activation_salience: ``(T, d_in)``.
        weight_salience: ``(d_in,)``.

    Returns:
        ``(T,)``, positive, sums to 1.
    """
    return torch.softmax(-spearman_rho(activation_salience, weight_salience), dim=0)


def calibrated_salience(
    activation_salience: Float[Tensor, "timestep channel"], weight_salience: Float[Tensor, " channel"]
) -> Float[Tensor, " channel"]:
    """``s_rho(X) = sum_t eta_t s(X[t])`` (PTQ4DiT eq. 10).

    Deviation: the released code weighs the samples of one batch; the paper's equation, followed here, weighs timesteps.

    Args:
        activation_salience: ``(T, d_in)``.
        weight_salience: ``(d_in,)``.

    Returns:
        ``(d_in,)``.
    """
    return timestep_weights(activation_salience, weight_salience) @ activation_salience


def middle_timestep_salience(activation_salience: Float[Tensor, "timestep channel"]) -> Float[Tensor, " channel"]:
    """Salience at the middle timestep, which CSB without SSC uses (the paper's ablation).

    Args:
        activation_salience: ``(T, d_in)``.

    Returns:
        ``(d_in,)``, the row ``T // 2``.
    """
    return activation_salience[activation_salience.shape[0] // 2]


def _centred_ranks(x: Tensor) -> Tensor:
    x = x.contiguous()
    ordered = x.sort(dim=-1).values
    below = torch.searchsorted(ordered, x, right=False)
    not_above = torch.searchsorted(ordered, x, right=True)
    ranks = (below + not_above).double() / 2
    return ranks - ranks.mean(dim=-1, keepdim=True)
